/* Nodes of different speed: placement, demotion, hints, promotion, on plain and on home frames. */
#include "core_env.h"
#include "reclaim/tier.h"

#define FAST 0u
#define SLOW 1u

static const u32 kinds[] = { 0, 1, 2, 3, 8, 9, 11 };

/* A fast node of `fast` pages before a slow one that takes everything else. */
static void open_tiers(struct env *e, u32 kind, u64 fast, u64 limit)
{
	struct core_config cc = { .ram_limit_pages = limit };
	struct sim_config sc;

	memset(e, 0, sizeof(*e));
	e->home = kind & 1;
	e->hw = kind & 2;
	inject_init(&e->inject);
	sc = sim_defaults(e->home, e->hw);
	sc.caps |= (kind & 8 ? CAP_FLUSH_UNDER_LOCK : 0) | (e->home ? CAP_PARK : 0);
	sc.inject = &e->inject;
	sc.ram_frames = 65536;
	sc.span_frames = e->home ? 0 : 131072;
	assert_int_equal(sim_create(&sc, &e->m), 0);
	cc.phys.nr_nodes = 2;
	for (u32 i = 0; i < 2; i++) {
		cc.phys.node[i].base_pfn = i * sc.span_frames / 2;
		cc.phys.node[i].span = sc.span_frames / 2;
		cc.phys.node[i].tier = i;
	}
	cc.phys.node[FAST].capacity = fast;
	cc.phys.node[SLOW].capacity = ~0ull;
	cc.phys.node[SLOW].size = 4 * fast;
	assert_int_equal(core_create(&e->q, e->m, &cc), 0);
	assert_int_equal(space_create(e->q, CGROUP_ROOT, 0, &e->s), 0);
}

static struct folio *folio_of(struct env *e, u64 va)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&e->s->fs.rs.pgt, va, &desc);
	u64 entry = p ? pte_get(p) : 0;

	if (p)
		pt_pte_unlock(desc);
	return pte_present(entry) ? phys_folio(e->q, entry_pfn(entry)) : NULL;
}

static int node_of(struct env *e, u64 va)
{
	struct folio *f = folio_of(e, va);

	return f ? (int)folio_node(f) : -1;
}

static bool is_hint(struct env *e, u64 va)
{
	struct ptdesc *desc;
	pte_t *p = pt_pte_lock(&e->s->fs.rs.pgt, va, &desc);
	bool hint = p && pte_is_hint(pte_get(p));

	if (p)
		pt_pte_unlock(desc);
	return hint;
}

static u64 read_word(struct env *e, u64 va)
{
	u64 w = 0;

	assert_int_equal(sim_load(e->m, 0, e->s->ms, va, &w, sizeof(w)), 0);
	return w;
}

/* More than fits on the fast node goes to the slow one, the oldest first, and nothing is swapped.
 */
static void cold_pages_are_demoted(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct tier_node_stats st;
		struct env e;
		u64 va;

		open_tiers(&e, kinds[k], 512, 0);
		va = env_map(&e, 1536, RW, 0);
		env_write(&e, va, 1536, 7);
		lru_drain_all(e.q);
		assert_true(phys_used(e.q, FAST) <= 512);
		assert_true(phys_used(e.q, FAST) >= 384);
		assert_true(phys_used(e.q, SLOW) >= 1024);
		assert_int_equal(stat_read(e.q, STAT_SWAP_OUT_PAGES), 0);
		assert_int_equal(node_of(&e, va), SLOW);
		assert_int_equal(node_of(&e, va + PG(1535)), FAST);
		assert_true(is_hint(&e, va));
		assert_false(sim_reachable(e.m, e.s->ms, va, false));
		tier_stats(e.q, FAST, &st);
		assert_int_equal(st.demoted_out, stat_read(e.q, STAT_DEMOTED));
		env_check(&e);
		env_expect(&e, va, 1536, 7, 0);
		env_check(&e);
		env_close(&e);
	}
}

/* What is used soon after it was demoted comes back, and others go. */
static void used_pages_are_promoted(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct env e;
		u64 va, hot = 0;

		open_tiers(&e, kinds[k], 512, 0);
		tier_set_rate(e.q, ~0ull);
		va = env_map(&e, 1024, RW, 0);
		env_write(&e, va, 1024, 7);
		lru_drain_all(e.q);
		while (node_of(&e, va + PG(hot)) != SLOW)
			hot += 64;
		for (u32 round = 0; round < 8; round++) {
			for (u64 i = hot; i < hot + 64; i++)
				read_word(&e, va + PG(i));
			fault_end_leases(e.q, &e.s->fs);
		}
		for (u64 i = hot; i < hot + 64; i++)
			assert_int_equal(node_of(&e, va + PG(i)), FAST);
		assert_true(stat_read(e.q, STAT_PROMOTED) >= 64);
		assert_true(phys_used(e.q, FAST) <= 512);
		env_expect(&e, va, 1024, 7, 0);
		env_close(&e);
	}
}

/* Without promotions: pages that are used all the time are noticed before it is their turn to go.
 */
static void used_pages_stay(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct tier_node_stats st;
		struct env e;
		u64 hot, cold;

		open_tiers(&e, kinds[k], 8192, 0);
		tier_set_rate(e.q, 0);
		hot = env_map(&e, 64, RW, 0);
		env_write(&e, hot, 64, 3);
		cold = env_map(&e, 20480, RW, 0);
		for (u64 i = 0; i < 20480; i++) {
			assert_int_equal(env_write_page(&e, cold + PG(i), 5, i), 0);
			read_word(&e, hot + PG(i % 64));
		}
		for (u64 i = 0; i < 64; i++)
			/* An accessed bit may be a little old (rmap_referenced). */
			assert_true(e.hw || node_of(&e, hot + PG(i)) == FAST);
		tier_stats(e.q, FAST, &st);
		assert_true(e.hw || (st.hints > 0 && st.hint_faults > 0));
		env_expect(&e, hot, 64, 3, 0);
		env_expect(&e, cold, 20480, 5, 0);
		env_close(&e);
	}
}

static void the_rate_limits_promotions(void **state)
{
	struct env e;
	u64 va;

	(void)state;
	open_tiers(&e, 9, 512, 0);
	tier_set_rate(e.q, 0);
	va = env_map(&e, 1024, RW, 0);
	env_write(&e, va, 1024, 7);
	for (u32 round = 0; round < 4; round++) {
		env_expect(&e, va, 256, 7, 0);
		fault_end_leases(e.q, &e.s->fs);
	}
	assert_int_equal(stat_read(e.q, STAT_PROMOTED), 0);
	assert_true(stat_read(e.q, STAT_PROMOTE_LIMITED) > 0);
	env_close(&e);
}

/* A use that does not promote leases: then the block's pages are used without traps until the lease
 * ends. */
static void leases_end(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct env e;
		u64 va, traps;

		open_tiers(&e, kinds[k], 512, 0);
		tier_set_rate(e.q, 0);
		va = env_map(&e, 1024, RW, 0);
		env_write(&e, va, 1024, 7);
		read_word(&e, va);
		assert_false(is_hint(&e, va));
		traps = stat_read(e.q, STAT_HINT_FAULTS);
		read_word(&e, va);
		read_word(&e, va + PG(3));
		assert_int_equal(stat_read(e.q, STAT_HINT_FAULTS), traps);
		fault_end_leases(e.q, &e.s->fs);
		assert_true(is_hint(&e, va));
		assert_false(sim_reachable(e.m, e.s->ms, va, false));
		read_word(&e, va);
		assert_int_equal(stat_read(e.q, STAT_HINT_FAULTS), traps + 1);
		env_expect(&e, va, 1024, 7, 0);
		env_close(&e);
	}
}

/* Pins take a page from its hint, and no lease ends while it is pinned. */
static void pinned_pages_stay_accessible(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct folio *pages[4];
		struct range r;
		struct env e;
		u64 va;

		open_tiers(&e, kinds[k], 512, 0);
		va = env_map(&e, 1024, RW, 0);
		env_write(&e, va, 1024, 7);
		assert_true(is_hint(&e, va));
		r = (struct range){ va, va + PG(4) };
		assert_int_equal(pin_fast(e.q, &e.s->fs, r, ACCESS_WRITE, pages), 4);
		fault_end_leases(e.q, &e.s->fs);
		assert_false(is_hint(&e, va));
		unpin_pages(e.q, pages, 4);
		env_expect(&e, va, 1024, 7, 0);
		env_close(&e);
	}
}

/* Every operation on addresses whose entries are hints. */
static void hints_meet_every_operation(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct env e;
		u64 va, to;

		open_tiers(&e, kinds[k], 512, 0);
		tier_set_rate(e.q, 0);
		va = env_map(&e, 1024, RW, 0);
		env_write(&e, va, 1024, 7);
		assert_true(is_hint(&e, va));
		/* protect: still a hint, and what the area says holds */
		assert_int_equal(space_protect(e.q, e.s, va, PG(8), PROT_BITS_READ), 0);
		assert_true(is_hint(&e, va));
		assert_int_equal(env_write_page(&e, va, 8, 0), -EACCES);
		env_expect(&e, va, 8, 7, 0);
		assert_int_equal(space_protect(e.q, e.s, va, PG(8), 0), 0);
		assert_int_equal(space_protect(e.q, e.s, va, PG(8), RW), 0);
		fault_end_leases(e.q, &e.s->fs);
		assert_int_equal(env_write_page(&e, va, 7, 0), 0);
		env_expect(&e, va, 8, 7, 0);
		/* discard */
		assert_true(is_hint(&e, va + PG(16)));
		assert_int_equal(space_advise(e.q, e.s, va + PG(16), PG(4), ADVISE_DONTNEED), 0);
		assert_int_equal(read_word(&e, va + PG(17)), 0);
		env_expect(&e, va + PG(20), 4, 7, 20);
		/* move */
		assert_true(is_hint(&e, va + PG(64)));
		assert_int_equal(space_remap(e.q, e.s, va + PG(64), PG(32), PG(32), 1 | 4, 0, &to),
				 0);
		env_expect(&e, to, 32, 7, 64);
		/* page out, and in again */
		assert_true(is_hint(&e, va + PG(128)));
		assert_int_equal(space_advise(e.q, e.s, va + PG(128), PG(32), ADVISE_PAGEOUT), 0);
		env_expect(&e, va + PG(128), 32, 7, 128);
		assert_true(stat_read(e.q, STAT_SWAP_OUT_PAGES) > 0);
		/* lazily freed: may be gone, or be as it was */
		assert_int_equal(space_advise(e.q, e.s, va + PG(192), PG(8), ADVISE_FREE), 0);
		env_write(&e, va + PG(192), 8, 9);
		env_expect(&e, va + PG(192), 8, 9, 0);
		/* locked in memory */
		assert_int_equal(space_mlock(e.q, e.s, va + PG(256), PG(16), false), 0);
		env_expect(&e, va + PG(256), 16, 7, 256);
		assert_int_equal(space_munlock(e.q, e.s, va + PG(256), PG(16)), 0);
		/* unmap */
		assert_int_equal(space_unmap(e.q, e.s, va + PG(300), PG(20)), 0);
		env_check(&e);
		env_close(&e);
	}
}

/* With a limit below all memory, what is cold goes from the slow node to the store. */
static void the_slow_node_is_swapped_first(void **state)
{
	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct env e;
		u64 va;

		open_tiers(&e, kinds[k], 256, 1024);
		va = env_map(&e, 2048, RW, 0);
		env_write(&e, va, 2048, 7);
		assert_true(phys_used(e.q, FAST) <= 256);
		assert_true(phys_used(e.q, FAST) >= 128);
		assert_true(cgroup_usage(e.q, CGROUP_ROOT) <= 1024);
		assert_true(stat_read(e.q, STAT_SWAP_OUT_PAGES) > 0);
		assert_true(stat_read(e.q, STAT_DEMOTED) >= 1024);
		env_expect(&e, va, 2048, 7, 0);
		assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
		env_close(&e);
	}
}

/* Pages of home frames change their node by an explicit call as well, and come back. */
static void move_pages_moves_home_frames(void **state)
{
	u64 va, at[64];
	int status[64];
	struct env e;

	(void)state;
	open_tiers(&e, 9, 4096, 0);
	va = env_map(&e, 64, RW, 0);
	env_write(&e, va, 64, 7);
	for (u32 i = 0; i < 64; i++)
		at[i] = va + PG(i);
	for (u32 round = 0; round < 4; round++) {
		unsigned to = round & 1 ? FAST : SLOW;

		assert_int_equal(space_move_to_node(e.q, e.s, at, 64, to, status), 0);
		for (u32 i = 0; i < 64; i++) {
			assert_int_equal(status[i], to);
			assert_int_equal(node_of(&e, at[i]), to);
		}
		assert_int_equal(phys_used(e.q, to), 64);
		assert_int_equal(phys_used(e.q, !to), 0);
		env_expect(&e, va, 64, 7, 0);
	}
	env_close(&e);
}

/* mremap takes memory of the same kind: where it comes from, not where new pages would go. */
static void remap_stays_on_its_node(void **state)
{
	struct env e;
	u64 full, va, to;

	(void)state;
	open_tiers(&e, 9, 512, 0);
	full = env_map(&e, 512, RW, 0);
	va = env_map(&e, 128, RW, 0);
	assert_int_equal(space_mlock(e.q, e.s, full, PG(512), false), 0);
	assert_int_equal(phys_used(e.q, FAST), 512);
	env_write(&e, va, 128, 7);
	assert_int_equal(phys_used(e.q, SLOW), 128);
	assert_int_equal(space_remap(e.q, e.s, va, PG(128), PG(128), 1 | 4, 0, &to), 0);
	for (u32 i = 0; i < 128; i++)
		assert_int_equal(node_of(&e, to + PG(i)), SLOW);
	env_expect(&e, to, 128, 7, 0);
	lru_drain_all(e.q);
	assert_int_equal(phys_used(e.q, SLOW), 128);
	assert_int_equal(space_munlock(e.q, e.s, full, PG(512)), 0);
	env_close(&e);
}

/* What cannot leave the slow node does not keep what can on the fast one from being evicted. */
static void stuck_nodes_are_passed_over(void **state)
{
	struct env e;
	u64 kept, va;

	(void)state;
	open_tiers(&e, 9, 512, 768);
	kept = env_map(&e, 512, RW, 0);
	assert_int_equal(space_set_policy(e.q, e.s, kept, PG(512), POLICY_PREFERRED, BIT(SLOW)), 0);
	env_write(&e, kept, 512, 7);
	/* Home frames that may not be read are not read by eviction either. */
	assert_int_equal(space_protect(e.q, e.s, kept, PG(512), 0), 0);
	va = env_map(&e, 512, RW, 0);
	env_write(&e, va, 512, 8);
	assert_int_equal(stat_read(e.q, STAT_OVER_LIMIT), 0);
	assert_true(stat_read(e.q, STAT_SWAP_OUT_PAGES) >= 256);
	env_expect(&e, va, 512, 8, 0);
	assert_int_equal(space_protect(e.q, e.s, kept, PG(512), RW), 0);
	env_expect(&e, kept, 512, 7, 0);
	env_close(&e);
}

/* What is bound to a node from which nothing goes is somewhere else then. */
static void bound_pages_find_room(void **state)
{
	struct env e;
	u64 full, va;

	(void)state;
	open_tiers(&e, 9, 512, 0);
	full = env_map(&e, 512, RW, 0);
	va = env_map(&e, 64, RW, 0);
	assert_int_equal(space_mlock(e.q, e.s, full, PG(512), false), 0);
	assert_int_equal(space_set_policy(e.q, e.s, va, PG(64), POLICY_BIND, BIT(FAST)), 0);
	env_write(&e, va, 64, 7);
	env_expect(&e, va, 64, 7, 0);
	assert_int_equal(node_of(&e, va), SLOW);
	assert_int_equal(space_munlock(e.q, e.s, full, PG(512)), 0);
	env_close(&e);
}

/* Every failure in turn: the pages are there with their contents, and the counts are right. */
static void failures_change_nothing(void **state)
{
	static const enum inject_point points[] = { INJECT_MIGRATE, INJECT_FRAME,
						    INJECT_MACHINE_CALL, INJECT_ENTRIES };

	(void)state;
	for (u32 k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct env e;
		u64 va;

		open_tiers(&e, kinds[k], 512, 2048);
		tier_set_rate(e.q, ~0ull);
		va = env_map(&e, 1024, RW, 0);
		env_write(&e, va, 1024, 7);
		for (u32 p = 0; p < ARRAY_SIZE(points); p++)
			for (u32 nth = 1; nth < 12; nth++) {
				u64 word;

				inject_at(&e.inject, points[p], nth);
				for (u64 i = 0; i < 1024; i += 64)
					(void)!sim_load(e.m, 0, e.s->ms, va + PG(i), &word, 8);
				fault_end_leases(e.q, &e.s->fs);
				inject_off(&e.inject, points[p]);
				env_check(&e);
			}
		env_expect(&e, va, 1024, 7, 0);
		env_close(&e);
	}
}

static void policies_place_new_pages(void **state)
{
	u32 on[2] = { 0, 0 }, mode, nodes;
	struct env e;
	u64 va;

	(void)state;
	open_tiers(&e, 9, 4096, 0);
	va = env_map(&e, 512, RW, 0);
	assert_int_equal(space_set_policy(e.q, e.s, va, PG(256), POLICY_PREFERRED, BIT(SLOW)), 0);
	env_write(&e, va, 512, 7);
	assert_int_equal(node_of(&e, va), SLOW);
	assert_int_equal(node_of(&e, va + PG(300)), FAST);
	assert_int_equal(space_get_policy(e.q, e.s, va, &mode, &nodes), 0);
	assert_int_equal(mode, POLICY_PREFERRED);
	assert_int_equal(nodes, BIT(SLOW));
	assert_int_equal(space_set_policy(e.q, e.s, 0, 0, POLICY_INTERLEAVE, 3), 0);
	va = env_map(&e, 1024, RW, 0);
	env_write(&e, va, 1024, 7);
	for (u32 i = 0; i < 1024; i++)
		on[node_of(&e, va + PG(i))]++;
	assert_int_equal(on[0], 512);
	assert_int_equal(on[1], 512);
	assert_int_equal(space_set_policy(e.q, e.s, 0, 0, POLICY_WEIGHTED, 3), 0);
	va = env_map(&e, 8192, RW, 0);
	env_write(&e, va, 8192, 7);
	on[0] = on[1] = 0;
	for (u32 i = 0; i < 8192; i++)
		on[node_of(&e, va + PG(i))]++;
	/* a fifth, by chance but always the same */
	assert_in_range(on[0], 8192 / 10, 8192 * 3 / 10);
	/* New pages on the slow node begin with a lease: most have ended. */
	nodes = 0;
	for (u32 i = 0; i < 8192; i++)
		nodes += is_hint(&e, va + PG(i));
	assert_true(nodes > 0);
	env_expect(&e, va, 8192, 7, 0);
	assert_int_equal(space_set_policy(e.q, e.s, 0, 0, NR_POLICIES, 1), -EINVAL);
	assert_int_equal(space_set_policy(e.q, e.s, 0, 0, POLICY_BIND, 4), -EINVAL);
	assert_int_equal(space_set_policy(e.q, e.s, 0, 0, POLICY_DEFAULT, 1), -EINVAL);
	assert_int_equal(space_set_policy(e.q, e.s, 4096, PG(1), POLICY_BIND, 1), -EINVAL);
	env_close(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cold_pages_are_demoted),
		cmocka_unit_test(used_pages_are_promoted),
		cmocka_unit_test(used_pages_stay),
		cmocka_unit_test(the_rate_limits_promotions),
		cmocka_unit_test(leases_end),
		cmocka_unit_test(pinned_pages_stay_accessible),
		cmocka_unit_test(hints_meet_every_operation),
		cmocka_unit_test(the_slow_node_is_swapped_first),
		cmocka_unit_test(move_pages_moves_home_frames),
		cmocka_unit_test(remap_stays_on_its_node),
		cmocka_unit_test(stuck_nodes_are_passed_over),
		cmocka_unit_test(bound_pages_find_room),
		cmocka_unit_test(failures_change_nothing),
		cmocka_unit_test(policies_place_new_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
