/*
 * The lock checker fires, and says what happened. The files of the locks are compiled here once
 * more with the checks, so that this runs in every build; they stand in for the library's.
 */
#ifndef QUIRE_LOCKCHECK
#define QUIRE_LOCKCHECK 1
#endif
#include "base/lock.c"
#include "base/lockcheck.c"
#include "base/rwsem.c"
#undef WRITER
#undef WAITING
#undef SLEEPERS
#undef READERS
#include "base/vmalock.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct spin pte, pte2, lru;
static struct rwsem space, anon;
static struct mutex machine;
static struct vmalock vma;
static a32_t gen;
static a64_t flags;

static void setup(void)
{
	spin_init(&pte, LOCK_PTE);
	spin_init(&pte2, LOCK_PTE);
	spin_init(&lru, LOCK_LRU);
	rwsem_init(&space, LOCK_SPACE);
	rwsem_init(&anon, LOCK_ANON_VMA);
	mutex_init(&machine, LOCK_MACHINE);
	vmalock_init(&vma);
	a32_set(&gen, 1);
	a64_set(&flags, 0);
}

/*
 * Runs fn in a child that must die by abort, with every part of `expect` (split at '|') on stderr.
 */
static void expect_panic(void (*fn)(void), const char *expect)
{
	char text[2048], parts[256];
	ssize_t n, len = 0;
	int status, fd[2];
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) {
		dup2(fd[1], 2);
		setup();
		fn();
		_exit(0);
	}
	close(fd[1]);
	while ((n = read(fd[0], text + len, sizeof(text) - 1 - (size_t)len)) > 0)
		len += n;
	text[len] = 0;
	close(fd[0]);
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	strncpy(parts, expect, sizeof(parts) - 1);
	parts[sizeof(parts) - 1] = 0;
	for (char *save, *p = strtok_r(parts, "|", &save); p; p = strtok_r(NULL, "|", &save)) {
		if (!strstr(text, p))
			fail_msg("expected \"%s\" in: %s", p, text);
	}
}

static void inversion(void)
{
	rwsem_read_lock(&space);
	spin_lock(&lru);
	spin_lock(&pte);
}

static void inversion_by_reader(void)
{
	spin_lock(&pte);
	rwsem_read_lock(&space);
}

static void same_class(void)
{
	spin_lock(&pte);
	spin_lock(&pte2);
}

static void nested_against_order(void)
{
	spin_lock(&lru);
	spin_lock_nested(&pte);
}

static void recursion(void)
{
	spin_lock(&pte);
	spin_lock_nested(&pte);
}

static void reader_recursion(void)
{
	rwsem_read_lock(&space);
	rwsem_read_lock(&space);
}

static void not_owner(void)
{
	/* Held by "another thread": the word says so, this thread's record does not. */
	a32_set(&pte.word, 1);
	spin_unlock(&pte);
}

static void not_held_bit(void)
{
	a64_set(&flags, 1);
	bitlock_unlock(&flags, 0, 7, (u32 *)(void *)&flags.raw);
}

static void sleep_in_rcu(void)
{
	base_self()->rcu_depth = 1;
	rwsem_write_lock(&space);
}

static void may_sleep_in_rcu(void)
{
	base_self()->rcu_depth = 1;
	lock_assert_may_sleep();
}

static void bitlock_in_rcu(void)
{
	base_self()->rcu_depth = 1;
	bitlock_lock(&flags, 0, 7, (u32 *)(void *)&flags.raw, LOCK_FOLIO);
}

static void may_sleep_with_spin(void)
{
	spin_lock(&lru);
	lock_assert_may_sleep();
}

static void assert_held_fails(void)
{
	lock_assert_held(&space);
}

static void assert_none_fails(void)
{
	rwsem_read_lock(&space);
	lock_assert_none();
}

static void vma_writer_while_reading(void)
{
	vmalock_read_lock_under_space(&vma);
	vmalock_write_lock(&vma, &gen);
}

static void vma_writer_under_spin(void)
{
	spin_lock(&pte);
	vmalock_write_lock(&vma, &gen);
}

static void too_many(void)
{
	static struct spin s[BASE_MAX_HELD + 1];

	for (u32 i = 0; i < ARRAY_SIZE(s); i++) {
		spin_init(&s[i], LOCK_PTE);
		spin_lock_nested(&s[i]);
	}
}

static void test_fires(void **state)
{
	(void)state;
	expect_panic(inversion, "lock order: taking PTE(|while holding LRU(|held: SPACE(|LRU(");
	expect_panic(inversion_by_reader, "lock order: taking SPACE(|while holding PTE(");
	expect_panic(same_class, "lock order: taking PTE(|while holding PTE(");
	expect_panic(nested_against_order, "lock order: taking PTE(|while holding LRU(");
	expect_panic(recursion, "lock recursion: taking PTE(");
	expect_panic(reader_recursion, "lock recursion: taking SPACE(");
	expect_panic(not_owner, "lock not held: releasing");
	expect_panic(not_held_bit, "lock not held: releasing");
	expect_panic(sleep_in_rcu, "sleeping in an RCU section: taking SPACE(");
	expect_panic(may_sleep_in_rcu, "sleeping in an RCU section");
	expect_panic(bitlock_in_rcu, "sleeping in an RCU section: taking FOLIO(");
	expect_panic(may_sleep_with_spin, "sleeping: |holding LRU(");
	expect_panic(assert_held_fails, "lock not held: needing");
	expect_panic(assert_none_fails, "a lock is held|SPACE(");
	expect_panic(vma_writer_while_reading, "lock recursion: taking VMA(");
	expect_panic(vma_writer_under_spin, "lock order: taking VMA(|PTE(");
	expect_panic(too_many, "too many locks");
}

static void test_quiet(void **state)
{
	(void)state;
	setup();
	rwsem_read_lock(&space);
	bitlock_lock(&flags, 0, 7, (u32 *)(void *)&flags.raw, LOCK_FOLIO);
	assert_true(vmalock_read_trylock(&vma, &gen));
	rwsem_read_lock(&anon);
	spin_lock(&pte);
	spin_lock_nested(&pte2);
	spin_lock(&lru);
	mutex_lock(&machine); /* leaf of the machine: under anything */
	lock_assert_held(&pte);
	lock_assert_held(&flags);
	assert_int_equal(base_self()->nr_held, 8);
	/* Released in any order. */
	spin_unlock(&pte);
	rwsem_read_unlock(&space);
	mutex_unlock(&machine);
	/* A trylock may be out of order. */
	assert_true(spin_trylock(&pte));
	spin_unlock(&pte);
	spin_unlock(&pte2);
	spin_unlock(&lru);
	rwsem_read_unlock(&anon);
	vmalock_read_unlock(&vma);
	bitlock_unlock(&flags, 0, 7, (u32 *)(void *)&flags.raw);
	lock_assert_none();
	lock_assert_may_sleep();
	rwsem_write_lock(&space);
	vmalock_write_lock(&vma, &gen);
	rwsem_downgrade(&space);
	lock_assert_held(&space);
	rwsem_read_unlock(&space);
	assert_int_equal(base_self()->nr_held, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quiet),
		cmocka_unit_test(test_fires),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
