/* The contract of `wit/`, as data. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include "value.h"

#define MOST_PARAMETERS 4

enum function {
    CONFIGURE,
    MAX_TOKENS_PER_THREAD,
    SET_THRESHOLDS,
    THRESHOLDS,
    SET_MAX_THREADS,
    GET_BUDGET,
    OPEN_THREAD,
    SET_LIMIT,
    CHECK_BUDGET,
    RESERVE,
    CONSUME,
    CONSUME_ONCE,
    CONSUME_BATCH,
    TAKE_WARNINGS,
    HAS_BUDGET,
    GET_USAGE,
    GET_ALL_USAGE,
    HELD_TOKENS,
    RESET_THREAD,
    CLEANUP_THREAD,
    CLEAR,
    SNAPSHOT,
    RESTORE,
    BUDGET_WARNING,
    BUDGET_THREAD_ID,
    BUDGET_USAGE,
    BUDGET_PERCENT_USED,
    BUDGET_IS_EXHAUSTED,
    BUDGET_HELD_TOKENS,
    BUDGET_IS_DETACHED,
    BUDGET_CAN_CONSUME,
    BUDGET_CONSUME,
    BUDGET_TRIGGERED_THRESHOLDS,
    BUDGET_CHECK_THRESHOLDS,
    RESERVATION_TOKENS,
    RESERVATION_CHARGED_THREAD,
    RESERVATION_COMMIT,
    FUNCTIONS,
};

struct signature {
    /* The exported interface it is in. */
    const char *interface;
    const char *name;
    const struct type *parameters[MOST_PARAMETERS];
    /* NULL for none. */
    const struct type *result;
};

extern const struct signature signatures[FUNCTIONS];

/* What a call gives, for freeing it. */
extern const struct type text_type, optional_text_type, threshold_list_type, thread_usage_list_type,
    threshold_crossed_list_type, budget_warning_type, budget_warning_list_type, consumed_type, percent_list_type,
    optional_final_budget_type, thread_state_list_type;

/* `registry-error`: its cases are in the order of `tb_code`, which has TB_OK before them. */
extern const struct type registry_error_type;

#endif
