/*
 * bench.h - `quire bench`: Quire's own operations beside the kernel's, measured in one run.
 *
 * Invariants: nothing is judged here: the table shows ratios and the reach they aim at, and no time
 * makes the command fail. Whatever a measurement sets up (processes, a compressed swap device, a
 * control group, a folder of sockets) is gone when quire_bench_main returns, and also when the
 * process is interrupted or killed.
 * Locking: called once, by the only thread of the process.
 */
#ifndef QUIRE_BENCH_BENCH_H
#define QUIRE_BENCH_BENCH_H

/*
 * argv[0] is the name of the command, options and rows follow. Returns the exit status: 0; 1 when a
 * row could not be measured though it should have been (a crash, wrong page contents, something
 * left behind); 2 for a usage error; 128 + N after signal N.
 */
int quire_bench_main(int argc, char **argv);

#endif
