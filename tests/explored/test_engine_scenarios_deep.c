/* The comparison of engines on larger scenarios. */
#define SMALL_STATES 12000
#define SMALL_STEPS  3000000
#include "test_engine_scenarios.c"
