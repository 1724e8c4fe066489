#!/usr/bin/env bash
# Real programs under half and a quarter of their working sets: the same output as natively.
# QUIRE_SCALE multiplies the sizes (test_programs_deep.sh: hundreds of megabytes).
. "$(dirname "$0")/lib_run.sh"

scale=${QUIRE_SCALE:-1}

# working_set COMMAND...: bytes that it keeps resident when it may; standard input is $input.
input=/dev/null
working_set() {
	"$quire" run --quiet --json "$work/j" -- "$@" <"$input" >"$work/full.out" 2>"$work/full.err"
	number resident_peak_bytes "$work/j"
}

# halves NAME COMMAND...: with half and a quarter of that, and at least 1 MiB.
halves() {
	local name=$1 bytes part
	shift
	if ! command -v "$1" >/dev/null; then
		echo "skipped: $1 is not installed"
		return
	fi
	bytes=$(working_set "$@")
	for part in 2 4; do
		same "$name" "$(((bytes / part >> 10) + 1024))K" "$input" "$@"
	done
}

python3 -c '
import random
r = random.Random(1)
for i in range(200000 * '$scale'): print(r.randrange(10**9), hex(r.getrandbits(64)))' >"$work/lines"

halves "sort, 1 thread" sort --parallel=1 -S ${scale}00M "$work/lines"
halves "sort, 2 threads" sort --parallel=2 -S ${scale}00M "$work/lines"

cat >"$work/sql" <<SQL
create table t(a integer primary key, b text, c integer);
with recursive r(i) as (select 1 union all select i+1 from r where i<60000*$scale)
  insert into t select i, hex(i*7919)||'xxxxxxxxxxxxxxxxxxxxxxxxx', (i*48271)%1000003 from r;
create index tc on t(c);
select count(*), sum(c), max(b) from t where c%7=3;
select a,b,c from t order by c limit 20;
delete from t where a%3=0;
select count(*), total(length(b)) from t;
SQL
input=$work/sql
halves "sqlite3 in memory" sqlite3 :memory:
input=/dev/null

halves "python3 objects" python3 -c '
d = {i: ("value %d" % i, [i] * 5) for i in range(150000 * '$scale')}
l = sorted(d, key=lambda i: i * 7919 % 150001)
print(len(d), sum(len(v[0]) + v[1][2] for v in d.values()), l[:5], l[-5:])'

head -c $((300000 * scale)) "$work/lines" >"$work/small"
halves "xz -9" xz -9 -T1 -c "$work/small"

cc1=$(${CC:-gcc} -print-prog-name=cc1 2>/dev/null)
if [ -x "$cc1" ]; then
	python3 -c '
for i in range(250):
    print("int f%d(int a,int b){int s=0;for(int i=0;i<a;i++){s+=i*b^%d;if(s%%7==%d)s-=b;"
          % (i, i, i % 7) + "switch(s&3){case 0:s+=1;break;case 1:s^=b;break;"
          "default:s-=3;}}return s;}")' \
		>"$work/big.c"
	halves "cc1 -O2" "$cc1" -quiet -O2 -o - "$work/big.c"
else
	echo "skipped: no cc1"
fi

halves "multiprocessing" python3 -c '
import multiprocessing as m
data = [bytes([i % 256]) * 50000 for i in range(200)]
def f(x):
    b = bytearray(2 << 20)
    for i in range(0, len(b), 4096): b[i] = (x + i // 4096) % 251
    return sum(b) + data[x][5]
if __name__ == "__main__":
    m.set_start_method("fork")
    with m.Pool(3) as p: print(sum(p.map(f, range(20))), sum(map(sum, data)))'

export lines=$work/lines
halves "a shell pipeline" bash -c '
sort "$lines" | awk "{n[\$1 % 1000]++; s += \$1}
		END {for (i = 0; i < 1000; i++) print i, n[i]; print s}" |
	sort -n | tee >(wc -l >&2) | gzip -n | gzip -dc | md5sum'

# redis: a benchmark, a background save under writes, and every key read back.
redis() {
	local dir=$work/redis port=$((20000 + $$ % 20000)) bytes=$1 pid
	mkdir -p "$dir"
	rm -f "$dir/"*
	"$quire" run --quiet ${bytes:+--ram "$bytes"} --json "$dir/j" -- redis-server --port $port \
		--bind 127.0.0.1 --save "" --appendonly no --dir "$dir" >"$dir/log" 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		redis-cli -p $port ping >/dev/null 2>&1 && break
		sleep 0.1
	done
	timeout 60 redis-benchmark -p $port -q -n 40000 -r 30000 -d 300 -P 16 -t set,get \
		>"$dir/benchmark" || fail "redis-benchmark"
	python3 -c '
for i in range(20000):
    k, v = "key%d" % i, "value%d" % i * 20
    print("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r" % (len(k), k, len(v), v))' |
		timeout 60 redis-cli -p $port --pipe >"$dir/pipe"
	grep -q 'errors: 0, replies: 20000' "$dir/pipe" || fail "redis: $(cat "$dir/pipe")"
	timeout 20 redis-cli -p $port bgsave >/dev/null
	timeout 60 redis-benchmark -p $port -q -n 10000 -r 10000 -d 300 -P 16 -t set \
		>>"$dir/benchmark"
	for _ in $(seq 100); do
		redis-cli -p $port info persistence | grep -q bgsave_in_progress:0 && break
		sleep 0.2
	done
	redis-cli -p $port info persistence | grep -q bgsave_status:ok || fail "redis: bgsave"
	python3 -c '
for i in range(20000): print("GET key%d" % i)' |
		timeout 60 redis-cli -p $port | md5sum >"$dir/sum"
	python3 -c '
for i in range(20000): print("value%d" % i * 20)' | md5sum | cmp -s - "$dir/sum" ||
		fail "redis: values differ with ${bytes:-no limit}"
	timeout 20 redis-cli -p $port shutdown nosave
	wait $pid || fail "redis: exit status $?"
	[ -z "$bytes" ] || echo "ok: redis with $bytes"
}
if command -v redis-server redis-cli redis-benchmark >/dev/null; then
	redis ""
	peak=$(number resident_peak_bytes "$work/redis/j")
	redis "$((peak / 2 >> 10))K"
	redis "$((peak / 4 >> 10))K"
else
	echo "skipped: redis is not installed"
fi
finish
