/* The contract as tables, and its calls. Made from wit/ by host-example/generate; do not edit. */
#include "call.h"

static const struct type text_type = SIMPLE(STRING, tb_text);
static const struct type u64_type = SIMPLE(U64, uint64_t);
static const struct member budget_exhausted_members[] = {
    {"thread-id", &text_type, offsetof(tb_budget_exhausted, thread_id)},
    {"used", &u64_type, offsetof(tb_budget_exhausted, used)},
    {"held", &u64_type, offsetof(tb_budget_exhausted, held)},
    {"max-tokens", &u64_type, offsetof(tb_budget_exhausted, max_tokens)},
    {"requested", &u64_type, offsetof(tb_budget_exhausted, requested)},
};
static const struct type budget_exhausted_type = MEMBERS(RECORD, tb_budget_exhausted, budget_exhausted_members);
static const struct type u32_type = SIMPLE(U32, uint32_t);
static const struct member severity_members[] = {
    {"warning", NULL, 0},
    {"critical", NULL, 0},
    {"final", NULL, 0},
};
static const struct type severity_type = MEMBERS(ENUM, tb_severity, severity_members);
static const struct member threshold_members[] = {
    {"percent", &u32_type, offsetof(tb_threshold, percent)},
    {"severity", &severity_type, offsetof(tb_threshold, severity)},
};
static const struct type threshold_type = MEMBERS(RECORD, tb_threshold, threshold_members);
static const struct type threshold_list_type = LIST(threshold_type);
static const struct member usage_entry_members[] = {
    {"thread-id", &text_type, offsetof(tb_usage_entry, thread_id)},
    {"prompt-tokens", &u64_type, offsetof(tb_usage_entry, prompt_tokens)},
    {"completion-tokens", &u64_type, offsetof(tb_usage_entry, completion_tokens)},
};
static const struct type usage_entry_type = MEMBERS(RECORD, tb_usage_entry, usage_entry_members);
static const struct type usage_entry_list_type = LIST(usage_entry_type);
static const struct type bool_type = SIMPLE(BOOL, bool);
static const struct type optional_u64_type = OPTION(tb_optional_u64, u64_type);
static const struct type optional_text_type = OPTION(tb_optional_text, text_type);
static const struct member thread_options_members[] = {
    {"max-tokens", &optional_u64_type, offsetof(tb_thread_options, max_tokens)},
    {"parent", &optional_text_type, offsetof(tb_thread_options, parent)},
};
static const struct type thread_options_type = MEMBERS(RECORD, tb_thread_options, thread_options_members);
static const struct member acknowledgement_members[] = {
    {"threshold-percent", &u32_type, offsetof(tb_acknowledgement, threshold_percent)},
    {"max-tokens", &u64_type, offsetof(tb_acknowledgement, max_tokens)},
};
static const struct type acknowledgement_type = MEMBERS(RECORD, tb_acknowledgement, acknowledgement_members);
static const struct type acknowledgement_list_type = LIST(acknowledgement_type);
static const struct type u32_list_type = LIST(u32_type);
static const struct type text_list_type = LIST(text_type);
static const struct member hold_state_members[] = {
    {"made-for", &optional_text_type, offsetof(tb_hold_state, made_for)},
    {"request-id", &text_type, offsetof(tb_hold_state, request_id)},
    {"prompt-tokens", &u64_type, offsetof(tb_hold_state, prompt_tokens)},
    {"completion-tokens", &u64_type, offsetof(tb_hold_state, completion_tokens)},
    {"completion-before", &u64_type, offsetof(tb_hold_state, completion_before)},
    {"holder", &u64_type, offsetof(tb_hold_state, holder)},
    {"deadline", &u64_type, offsetof(tb_hold_state, deadline)},
};
static const struct type hold_state_type = MEMBERS(RECORD, tb_hold_state, hold_state_members);
static const struct type hold_state_list_type = LIST(hold_state_type);
static const struct member lost_state_members[] = {
    {"made-for", &optional_text_type, offsetof(tb_lost_state, made_for)},
    {"request-id", &text_type, offsetof(tb_lost_state, request_id)},
    {"prompt-tokens", &u64_type, offsetof(tb_lost_state, prompt_tokens)},
    {"completion-tokens", &u64_type, offsetof(tb_lost_state, completion_tokens)},
};
static const struct type lost_state_type = MEMBERS(RECORD, tb_lost_state, lost_state_members);
static const struct type lost_state_list_type = LIST(lost_state_type);
static const struct member thread_state_members[] = {
    {"thread-id", &text_type, offsetof(tb_thread_state, thread_id)},
    {"birth", &u64_type, offsetof(tb_thread_state, birth)},
    {"parent", &optional_text_type, offsetof(tb_thread_state, parent)},
    {"opened", &bool_type, offsetof(tb_thread_state, opened)},
    {"max-tokens", &u64_type, offsetof(tb_thread_state, max_tokens)},
    {"prompt-tokens", &u64_type, offsetof(tb_thread_state, prompt_tokens)},
    {"completion-tokens", &u64_type, offsetof(tb_thread_state, completion_tokens)},
    {"request-count", &u64_type, offsetof(tb_thread_state, request_count)},
    {"average-tokens", &u64_type, offsetof(tb_thread_state, average_tokens)},
    {"triggered-thresholds", &threshold_list_type, offsetof(tb_thread_state, triggered_thresholds)},
    {"pending-thresholds", &u32_list_type, offsetof(tb_thread_state, pending_thresholds)},
    {"request-ids", &text_list_type, offsetof(tb_thread_state, request_ids)},
    {"holds", &hold_state_list_type, offsetof(tb_thread_state, holds)},
    {"lost", &lost_state_list_type, offsetof(tb_thread_state, lost)},
};
static const struct type thread_state_type = MEMBERS(RECORD, tb_thread_state, thread_state_members);
static const struct type thread_state_list_type = LIST(thread_state_type);
static const struct type f64_type = SIMPLE(F64, double);
static const struct member threshold_crossed_members[] = {
    {"thread-id", &text_type, offsetof(tb_threshold_crossed, thread_id)},
    {"threshold-percent", &u32_type, offsetof(tb_threshold_crossed, threshold_percent)},
    {"severity", &severity_type, offsetof(tb_threshold_crossed, severity)},
    {"percent-used", &f64_type, offsetof(tb_threshold_crossed, percent_used)},
    {"tokens-used", &u64_type, offsetof(tb_threshold_crossed, tokens_used)},
    {"tokens-remaining", &u64_type, offsetof(tb_threshold_crossed, tokens_remaining)},
    {"max-tokens", &u64_type, offsetof(tb_threshold_crossed, max_tokens)},
    {"runway", &optional_u64_type, offsetof(tb_threshold_crossed, runway)},
};
static const struct type threshold_crossed_type = MEMBERS(RECORD, tb_threshold_crossed, threshold_crossed_members);
static const struct type thread_budget_type = HANDLE(OWN);
static const struct member usage_members[] = {
    {"prompt-tokens", &u64_type, offsetof(tb_usage, prompt_tokens)},
    {"completion-tokens", &u64_type, offsetof(tb_usage, completion_tokens)},
    {"total-tokens", &u64_type, offsetof(tb_usage, total_tokens)},
    {"remaining", &u64_type, offsetof(tb_usage, remaining)},
    {"max-tokens", &u64_type, offsetof(tb_usage, max_tokens)},
    {"request-count", &u64_type, offsetof(tb_usage, request_count)},
};
static const struct type usage_type = MEMBERS(RECORD, tb_usage, usage_members);
static const struct type optional_severity_type = OPTION(tb_optional_severity, severity_type);
static const struct type threshold_crossed_list_type = LIST(threshold_crossed_type);
static const struct member consumed_members[] = {
    {"usage", &usage_type, offsetof(tb_consumed, usage)},
    {"room", &u64_type, offsetof(tb_consumed, room)},
    {"severity", &optional_severity_type, offsetof(tb_consumed, severity)},
    {"crossed", &threshold_crossed_list_type, offsetof(tb_consumed, crossed)},
    {"repeated", &bool_type, offsetof(tb_consumed, repeated)},
};
static const struct type consumed_type = MEMBERS(RECORD, tb_consumed, consumed_members);
static const struct member budget_warning_members[] = {
    {"thread-id", &text_type, offsetof(tb_budget_warning, thread_id)},
    {"threshold-percent", &u32_type, offsetof(tb_budget_warning, threshold_percent)},
    {"percent-used", &f64_type, offsetof(tb_budget_warning, percent_used)},
    {"tokens-used", &u64_type, offsetof(tb_budget_warning, tokens_used)},
    {"tokens-remaining", &u64_type, offsetof(tb_budget_warning, tokens_remaining)},
    {"max-tokens", &u64_type, offsetof(tb_budget_warning, max_tokens)},
    {"runway", &optional_u64_type, offsetof(tb_budget_warning, runway)},
    {"severity", &severity_type, offsetof(tb_budget_warning, severity)},
    {"message", &text_type, offsetof(tb_budget_warning, message)},
};
static const struct type budget_warning_type = MEMBERS(RECORD, tb_budget_warning, budget_warning_members);
static const struct type budget_warning_list_type = LIST(budget_warning_type);
static const struct member held_members[] = {
    {"completion-tokens", &u64_type, offsetof(tb_held, completion_tokens)},
    {"usage", &usage_type, offsetof(tb_held, usage)},
    {"room", &u64_type, offsetof(tb_held, room)},
    {"severity", &optional_severity_type, offsetof(tb_held, severity)},
    {"runway", &optional_u64_type, offsetof(tb_held, runway)},
    {"pending", &budget_warning_list_type, offsetof(tb_held, pending)},
    {"repeated", &bool_type, offsetof(tb_held, repeated)},
};
static const struct type held_type = MEMBERS(RECORD, tb_held, held_members);
static const struct type optional_usage_type = OPTION(tb_optional_usage, usage_type);
static const struct member text_usage_members[] = {
    {NULL, &text_type, offsetof(tb_text_usage, f0)},
    {NULL, &usage_type, offsetof(tb_text_usage, f1)},
};
static const struct type text_usage_type = MEMBERS(TUPLE, tb_text_usage, text_usage_members);
static const struct type text_usage_list_type = LIST(text_usage_type);
static const struct member final_budget_members[] = {
    {"usage", &usage_type, offsetof(tb_final_budget, usage)},
    {"percent-used", &f64_type, offsetof(tb_final_budget, percent_used)},
    {"triggered-thresholds", &u32_list_type, offsetof(tb_final_budget, triggered_thresholds)},
};
static const struct type final_budget_type = MEMBERS(RECORD, tb_final_budget, final_budget_members);
static const struct type optional_final_budget_type = OPTION(tb_optional_final_budget, final_budget_type);
static const struct member changes_members[] = {
    {"changed", &thread_state_list_type, offsetof(tb_changes, changed)},
    {"gone", &text_list_type, offsetof(tb_changes, gone)},
};
static const struct type changes_type = MEMBERS(RECORD, tb_changes, changes_members);
static const struct type self_type = HANDLE(BORROW);

static const struct member registry_error_members[] = {
    {"exhausted", &budget_exhausted_type, 0},
    {"invalid-thread-id", &text_type, 0},
    {"too-many-threads", &u32_type, 0},
    {"invalid-threshold", &u32_type, 0},
    {"out-of-memory", NULL, 0},
    {"unknown-parent", &text_type, 0},
    {"parent-cycle", &text_type, 0},
    {"too-deep", &u32_type, 0},
    {"options-differ", &text_type, 0},
    {"invalid-request-id", &text_type, 0},
    {"too-many-holds", &u32_type, 0},
    {"unknown-hold", NULL, 0},
    {"batch-too-large", &u32_type, 0},
    {"invalid-state", &text_type, 0},
};
const struct type registry_error_type = MEMBERS(VARIANT, tb_code, registry_error_members);

const char *tb_code_name(tb_code code) {
    static const char *const names[] = {"ok", "exhausted", "invalid-thread-id", "too-many-threads", "invalid-threshold",
                                        "out-of-memory", "unknown-parent", "parent-cycle", "too-deep", "options-differ",
                                        "invalid-request-id", "too-many-holds", "unknown-hold", "batch-too-large",
                                        "invalid-state", "invalid-argument", "invalid-utf8", "argument-too-large",
                                        "trapped", "instance-lost", "unusable-component", "no-host-memory"};
    return (size_t)code < COUNT(names) ? names[code] : "unknown";
}

static const struct type result_of_nothing_type = RESULT(NULL);
static const struct type result_of_thread_budget_type = RESULT(&thread_budget_type);
static const struct type result_of_consumed_type = RESULT(&consumed_type);
static const struct type result_of_threshold_crossed_list_type = RESULT(&threshold_crossed_list_type);
static const struct type result_of_held_type = RESULT(&held_type);
static const struct type result_of_usage_type = RESULT(&usage_type);
static const struct type result_of_changes_type = RESULT(&changes_type);

static const struct member configure_parameters[] = {{"max-tokens-per-thread", &u64_type, 0}};
static const struct member set_thresholds_parameters[] = {{"thresholds", &threshold_list_type, 0}};
static const struct member set_max_threads_parameters[] = {{"max-threads", &u32_type, 0}};
static const struct member set_next_birth_parameters[] = {{"birth", &u64_type, 0}};
static const struct member get_budget_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member check_budget_parameters[] = {{"thread-id", &text_type, 0},
                                                        {"estimated-tokens", &u64_type, 0}};
static const struct member consume_parameters[] = {{"thread-id", &text_type, 0}, {"prompt-tokens", &u64_type, 0},
                                                   {"completion-tokens", &u64_type, 0}};
static const struct member consume_batch_parameters[] = {{"entries", &usage_entry_list_type, 0}};
static const struct member hold_parameters[] = {{"thread-id", &text_type, 0}, {"request-id", &text_type, 0},
                                                {"prompt-tokens", &u64_type, 0}, {"completion-tokens", &u64_type, 0},
                                                {"least-completion-tokens", &u64_type, 0}, {"holder", &u64_type, 0},
                                                {"deadline", &u64_type, 0}};
static const struct member settle_parameters[] = {{"thread-id", &text_type, 0}, {"request-id", &text_type, 0},
                                                  {"prompt-tokens", &u64_type, 0}, {"completion-tokens", &u64_type, 0},
                                                  {"remember", &bool_type, 0}};
static const struct member settle_lost_parameters[] = {{"thread-id", &text_type, 0}, {"request-id", &text_type, 0},
                                                       {"prompt-tokens", &u64_type, 0},
                                                       {"completion-tokens", &u64_type, 0}};
static const struct member release_parameters[] = {{"thread-id", &text_type, 0}, {"request-id", &text_type, 0}};
static const struct member open_thread_parameters[] = {{"thread-id", &text_type, 0},
                                                       {"options", &thread_options_type, 0}};
static const struct member set_limit_parameters[] = {{"thread-id", &text_type, 0}, {"max-tokens", &u64_type, 0}};
static const struct member pending_warnings_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member acknowledge_warnings_parameters[] = {{"thread-id", &text_type, 0},
                                                                {"acknowledgements", &acknowledgement_list_type, 0}};
static const struct member has_budget_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member get_usage_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member held_tokens_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member reset_thread_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member cleanup_thread_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member snapshot_parameters[] = {{"after", &optional_text_type, 0}, {"limit", &u32_type, 0}};
static const struct member restore_parameters[] = {{"states", &thread_state_list_type, 0}};
static const struct member take_changes_parameters[] = {{"limit", &u32_type, 0}};
static const struct member drop_tree_parameters[] = {{"thread-id", &text_type, 0}};
static const struct member thread_budget_thread_id_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_usage_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_percent_used_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_is_exhausted_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_held_tokens_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_is_detached_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_can_consume_parameters[] = {{"self", &self_type, 0},
                                                                     {"estimated-tokens", &u64_type, 0}};
static const struct member thread_budget_consume_parameters[] = {{"self", &self_type, 0},
                                                                 {"prompt-tokens", &u64_type, 0},
                                                                 {"completion-tokens", &u64_type, 0}};
static const struct member thread_budget_triggered_thresholds_parameters[] = {{"self", &self_type, 0}};
static const struct member thread_budget_check_thresholds_parameters[] = {{"self", &self_type, 0},
                                                                          {"thresholds", &threshold_list_type, 0}};
static const struct member budget_warning_of_parameters[] = {{"crossed", &threshold_crossed_type, 0}};

enum {
    CONFIGURE, MAX_TOKENS_PER_THREAD, SET_THRESHOLDS, THRESHOLDS, SET_MAX_THREADS, SET_NEXT_BIRTH, GET_BUDGET,
    CHECK_BUDGET, CONSUME, CONSUME_BATCH, HOLD, SETTLE, SETTLE_LOST, RELEASE, OPEN_THREAD, SET_LIMIT, PENDING_WARNINGS,
    ACKNOWLEDGE_WARNINGS, HAS_BUDGET, GET_USAGE, GET_ALL_USAGE, HELD_TOKENS, RESET_THREAD, CLEANUP_THREAD, CLEAR,
    SNAPSHOT, RESTORE, TAKE_CHANGES, DROP_TREE, THREAD_BUDGET_THREAD_ID, THREAD_BUDGET_USAGE,
    THREAD_BUDGET_PERCENT_USED, THREAD_BUDGET_IS_EXHAUSTED, THREAD_BUDGET_HELD_TOKENS, THREAD_BUDGET_IS_DETACHED,
    THREAD_BUDGET_CAN_CONSUME, THREAD_BUDGET_CONSUME, THREAD_BUDGET_TRIGGERED_THRESHOLDS,
    THREAD_BUDGET_CHECK_THRESHOLDS, BUDGET_WARNING_OF,
};

const struct signature signatures[] = {
    [CONFIGURE] = {"thread-budget:registry/registry@0.2.0", "configure", TAKES(configure), NULL},
    [MAX_TOKENS_PER_THREAD] = {"thread-budget:registry/registry@0.2.0", "max-tokens-per-thread", NULL, 0, &u64_type},
    [SET_THRESHOLDS] = {"thread-budget:registry/registry@0.2.0", "set-thresholds", TAKES(set_thresholds),
                        &result_of_nothing_type},
    [THRESHOLDS] = {"thread-budget:registry/registry@0.2.0", "thresholds", NULL, 0, &threshold_list_type},
    [SET_MAX_THREADS] = {"thread-budget:registry/registry@0.2.0", "set-max-threads", TAKES(set_max_threads), NULL},
    [SET_NEXT_BIRTH] = {"thread-budget:registry/registry@0.2.0", "set-next-birth", TAKES(set_next_birth), NULL},
    [GET_BUDGET] = {"thread-budget:registry/registry@0.2.0", "get-budget", TAKES(get_budget),
                    &result_of_thread_budget_type},
    [CHECK_BUDGET] = {"thread-budget:registry/registry@0.2.0", "check-budget", TAKES(check_budget),
                      &result_of_nothing_type},
    [CONSUME] = {"thread-budget:registry/registry@0.2.0", "consume", TAKES(consume), &result_of_consumed_type},
    [CONSUME_BATCH] = {"thread-budget:registry/registry@0.2.0", "consume-batch", TAKES(consume_batch),
                       &result_of_threshold_crossed_list_type},
    [HOLD] = {"thread-budget:registry/registry@0.2.0", "hold", TAKES(hold), &result_of_held_type},
    [SETTLE] = {"thread-budget:registry/registry@0.2.0", "settle", TAKES(settle), &result_of_consumed_type},
    [SETTLE_LOST] = {"thread-budget:registry/registry@0.2.0", "settle-lost", TAKES(settle_lost),
                     &result_of_consumed_type},
    [RELEASE] = {"thread-budget:registry/registry@0.2.0", "release", TAKES(release), &bool_type},
    [OPEN_THREAD] = {"thread-budget:registry/registry@0.2.0", "open-thread", TAKES(open_thread),
                     &result_of_thread_budget_type},
    [SET_LIMIT] = {"thread-budget:registry/registry@0.2.0", "set-limit", TAKES(set_limit), &result_of_usage_type},
    [PENDING_WARNINGS] = {"thread-budget:registry/registry@0.2.0", "pending-warnings", TAKES(pending_warnings),
                          &budget_warning_list_type},
    [ACKNOWLEDGE_WARNINGS] = {"thread-budget:registry/registry@0.2.0", "acknowledge-warnings",
                              TAKES(acknowledge_warnings), NULL},
    [HAS_BUDGET] = {"thread-budget:registry/registry@0.2.0", "has-budget", TAKES(has_budget), &bool_type},
    [GET_USAGE] = {"thread-budget:registry/registry@0.2.0", "get-usage", TAKES(get_usage), &optional_usage_type},
    [GET_ALL_USAGE] = {"thread-budget:registry/registry@0.2.0", "get-all-usage", NULL, 0, &text_usage_list_type},
    [HELD_TOKENS] = {"thread-budget:registry/registry@0.2.0", "held-tokens", TAKES(held_tokens), &u64_type},
    [RESET_THREAD] = {"thread-budget:registry/registry@0.2.0", "reset-thread", TAKES(reset_thread), NULL},
    [CLEANUP_THREAD] = {"thread-budget:registry/registry@0.2.0", "cleanup-thread", TAKES(cleanup_thread),
                        &optional_final_budget_type},
    [CLEAR] = {"thread-budget:registry/registry@0.2.0", "clear", NULL, 0, NULL},
    [SNAPSHOT] = {"thread-budget:registry/registry@0.2.0", "snapshot", TAKES(snapshot), &thread_state_list_type},
    [RESTORE] = {"thread-budget:registry/registry@0.2.0", "restore", TAKES(restore), &result_of_nothing_type},
    [TAKE_CHANGES] = {"thread-budget:registry/registry@0.2.0", "take-changes", TAKES(take_changes),
                      &result_of_changes_type},
    [DROP_TREE] = {"thread-budget:registry/registry@0.2.0", "drop-tree", TAKES(drop_tree), &bool_type},
    [THREAD_BUDGET_THREAD_ID] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.thread-id",
                                 TAKES(thread_budget_thread_id), &text_type},
    [THREAD_BUDGET_USAGE] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.usage",
                             TAKES(thread_budget_usage), &usage_type},
    [THREAD_BUDGET_PERCENT_USED] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.percent-used",
                                    TAKES(thread_budget_percent_used), &f64_type},
    [THREAD_BUDGET_IS_EXHAUSTED] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.is-exhausted",
                                    TAKES(thread_budget_is_exhausted), &bool_type},
    [THREAD_BUDGET_HELD_TOKENS] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.held-tokens",
                                   TAKES(thread_budget_held_tokens), &u64_type},
    [THREAD_BUDGET_IS_DETACHED] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.is-detached",
                                   TAKES(thread_budget_is_detached), &bool_type},
    [THREAD_BUDGET_CAN_CONSUME] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.can-consume",
                                   TAKES(thread_budget_can_consume), &bool_type},
    [THREAD_BUDGET_CONSUME] = {"thread-budget:registry/registry@0.2.0", "[method]thread-budget.consume",
                               TAKES(thread_budget_consume), &consumed_type},
    [THREAD_BUDGET_TRIGGERED_THRESHOLDS] = {"thread-budget:registry/registry@0.2.0",
                                            "[method]thread-budget.triggered-thresholds",
                                            TAKES(thread_budget_triggered_thresholds), &u32_list_type},
    [THREAD_BUDGET_CHECK_THRESHOLDS] = {"thread-budget:registry/registry@0.2.0",
                                        "[method]thread-budget.check-thresholds", TAKES(thread_budget_check_thresholds),
                                        &threshold_crossed_list_type},
    [BUDGET_WARNING_OF] = {"thread-budget:registry/warnings@0.2.0", "budget-warning", TAKES(budget_warning_of),
                           &budget_warning_type},
};
const size_t signature_count = COUNT(signatures);
_Static_assert(MOST_PARAMETERS >= 7, "a call takes more");

tb_code tb_configure(tb_registry *registry, uint64_t max_tokens_per_thread, tb_error *error) {
    const void *in[] = {&max_tokens_per_thread};
    return call(registry, CONFIGURE, in, NULL, error);
}

tb_code tb_max_tokens_per_thread(tb_registry *registry, uint64_t *out, tb_error *error) {
    return call(registry, MAX_TOKENS_PER_THREAD, NULL, out, error);
}

tb_code tb_set_thresholds(tb_registry *registry, const tb_threshold *thresholds, size_t thresholds_count,
                          tb_error *error) {
    const void *in[] = {&(struct list){thresholds, thresholds_count}};
    return call(registry, SET_THRESHOLDS, in, NULL, error);
}

tb_code tb_thresholds(tb_registry *registry, tb_threshold_list *out, tb_error *error) {
    return call(registry, THRESHOLDS, NULL, out, error);
}

tb_code tb_set_max_threads(tb_registry *registry, uint32_t max_threads, tb_error *error) {
    const void *in[] = {&max_threads};
    return call(registry, SET_MAX_THREADS, in, NULL, error);
}

tb_code tb_set_next_birth(tb_registry *registry, uint64_t birth, tb_error *error) {
    const void *in[] = {&birth};
    return call(registry, SET_NEXT_BIRTH, in, NULL, error);
}

tb_code tb_get_budget(tb_registry *registry, tb_text thread_id, tb_thread_budget **out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, GET_BUDGET, in, out, error);
}

tb_code tb_check_budget(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_error *error) {
    const void *in[] = {&thread_id, &estimated_tokens};
    return call(registry, CHECK_BUDGET, in, NULL, error);
}

tb_code tb_consume(tb_registry *registry, tb_text thread_id, uint64_t prompt_tokens, uint64_t completion_tokens,
                   tb_consumed *out, tb_error *error) {
    const void *in[] = {&thread_id, &prompt_tokens, &completion_tokens};
    return call(registry, CONSUME, in, out, error);
}

tb_code tb_consume_batch(tb_registry *registry, const tb_usage_entry *entries, size_t entries_count,
                         tb_threshold_crossed_list *out, tb_error *error) {
    const void *in[] = {&(struct list){entries, entries_count}};
    return call(registry, CONSUME_BATCH, in, out, error);
}

tb_code tb_hold(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                uint64_t completion_tokens, uint64_t least_completion_tokens, uint64_t holder, uint64_t deadline,
                tb_held *out, tb_error *error) {
    const void *in[] = {&thread_id, &request_id, &prompt_tokens, &completion_tokens, &least_completion_tokens, &holder,
                        &deadline};
    return call(registry, HOLD, in, out, error);
}

tb_code tb_settle(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                  uint64_t completion_tokens, bool remember, tb_consumed *out, tb_error *error) {
    const void *in[] = {&thread_id, &request_id, &prompt_tokens, &completion_tokens, &remember};
    return call(registry, SETTLE, in, out, error);
}

tb_code tb_settle_lost(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                       uint64_t completion_tokens, tb_consumed *out, tb_error *error) {
    const void *in[] = {&thread_id, &request_id, &prompt_tokens, &completion_tokens};
    return call(registry, SETTLE_LOST, in, out, error);
}

tb_code tb_release(tb_registry *registry, tb_text thread_id, tb_text request_id, bool *out, tb_error *error) {
    const void *in[] = {&thread_id, &request_id};
    return call(registry, RELEASE, in, out, error);
}

tb_code tb_open_thread(tb_registry *registry, tb_text thread_id, const tb_thread_options *options,
                       tb_thread_budget **out, tb_error *error) {
    const void *in[] = {&thread_id, options};
    return call(registry, OPEN_THREAD, in, out, error);
}

tb_code tb_set_limit(tb_registry *registry, tb_text thread_id, uint64_t max_tokens, tb_usage *out, tb_error *error) {
    const void *in[] = {&thread_id, &max_tokens};
    return call(registry, SET_LIMIT, in, out, error);
}

tb_code tb_pending_warnings(tb_registry *registry, tb_text thread_id, tb_budget_warning_list *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, PENDING_WARNINGS, in, out, error);
}

tb_code tb_acknowledge_warnings(tb_registry *registry, tb_text thread_id,
                                const tb_acknowledgement *acknowledgements, size_t acknowledgements_count,
                                tb_error *error) {
    const void *in[] = {&thread_id, &(struct list){acknowledgements, acknowledgements_count}};
    return call(registry, ACKNOWLEDGE_WARNINGS, in, NULL, error);
}

tb_code tb_has_budget(tb_registry *registry, tb_text thread_id, bool *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, HAS_BUDGET, in, out, error);
}

tb_code tb_get_usage(tb_registry *registry, tb_text thread_id, tb_optional_usage *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, GET_USAGE, in, out, error);
}

tb_code tb_get_all_usage(tb_registry *registry, tb_text_usage_list *out, tb_error *error) {
    return call(registry, GET_ALL_USAGE, NULL, out, error);
}

tb_code tb_held_tokens(tb_registry *registry, tb_text thread_id, uint64_t *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, HELD_TOKENS, in, out, error);
}

tb_code tb_reset_thread(tb_registry *registry, tb_text thread_id, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, RESET_THREAD, in, NULL, error);
}

tb_code tb_cleanup_thread(tb_registry *registry, tb_text thread_id, tb_optional_final_budget *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, CLEANUP_THREAD, in, out, error);
}

tb_code tb_clear(tb_registry *registry, tb_error *error) {
    return call(registry, CLEAR, NULL, NULL, error);
}

tb_code tb_snapshot(tb_registry *registry, const tb_text *after, uint32_t limit, tb_thread_state_list *out,
                    tb_error *error) {
    const void *in[] = {&(tb_optional_text){after != NULL, after ? *after : (tb_text){0}}, &limit};
    return call(registry, SNAPSHOT, in, out, error);
}

tb_code tb_restore(tb_registry *registry, const tb_thread_state *states, size_t states_count, tb_error *error) {
    const void *in[] = {&(struct list){states, states_count}};
    return call(registry, RESTORE, in, NULL, error);
}

tb_code tb_take_changes(tb_registry *registry, uint32_t limit, tb_changes *out, tb_error *error) {
    const void *in[] = {&limit};
    return call(registry, TAKE_CHANGES, in, out, error);
}

tb_code tb_drop_tree(tb_registry *registry, tb_text thread_id, bool *out, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, DROP_TREE, in, out, error);
}

tb_code tb_thread_budget_thread_id(tb_thread_budget *thread_budget, tb_text *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_THREAD_ID, in, out, error);
}

tb_code tb_thread_budget_usage(tb_thread_budget *thread_budget, tb_usage *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_USAGE, in, out, error);
}

tb_code tb_thread_budget_percent_used(tb_thread_budget *thread_budget, double *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_PERCENT_USED, in, out, error);
}

tb_code tb_thread_budget_is_exhausted(tb_thread_budget *thread_budget, bool *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_IS_EXHAUSTED, in, out, error);
}

tb_code tb_thread_budget_held_tokens(tb_thread_budget *thread_budget, uint64_t *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_HELD_TOKENS, in, out, error);
}

tb_code tb_thread_budget_is_detached(tb_thread_budget *thread_budget, bool *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_IS_DETACHED, in, out, error);
}

tb_code tb_thread_budget_can_consume(tb_thread_budget *thread_budget, uint64_t estimated_tokens, bool *out,
                                     tb_error *error) {
    const void *in[] = {NULL, &estimated_tokens};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_CAN_CONSUME, in, out, error);
}

tb_code tb_thread_budget_consume(tb_thread_budget *thread_budget, uint64_t prompt_tokens, uint64_t completion_tokens,
                                 tb_consumed *out, tb_error *error) {
    const void *in[] = {NULL, &prompt_tokens, &completion_tokens};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_CONSUME, in, out, error);
}

tb_code tb_thread_budget_triggered_thresholds(tb_thread_budget *thread_budget, tb_u32_list *out, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_TRIGGERED_THRESHOLDS, in, out, error);
}

tb_code tb_thread_budget_check_thresholds(tb_thread_budget *thread_budget,
                                          const tb_threshold *thresholds, size_t thresholds_count,
                                          tb_threshold_crossed_list *out, tb_error *error) {
    const void *in[] = {NULL, &(struct list){thresholds, thresholds_count}};
    return call_on((struct handle *)thread_budget, THREAD_BUDGET_CHECK_THRESHOLDS, in, out, error);
}

tb_code tb_budget_warning_of(tb_registry *registry, const tb_threshold_crossed *crossed, tb_budget_warning *out,
                             tb_error *error) {
    const void *in[] = {crossed};
    return call(registry, BUDGET_WARNING_OF, in, out, error);
}

void tb_text_free(tb_text *value) {
    value_free(&text_type, value);
}
void tb_threshold_list_free(tb_threshold_list *value) {
    value_free(&threshold_list_type, value);
}
void tb_u32_list_free(tb_u32_list *value) {
    value_free(&u32_list_type, value);
}
void tb_thread_state_list_free(tb_thread_state_list *value) {
    value_free(&thread_state_list_type, value);
}
void tb_thread_budget_free(tb_thread_budget *value) {
    handle_free((struct handle *)value);
}
void tb_threshold_crossed_list_free(tb_threshold_crossed_list *value) {
    value_free(&threshold_crossed_list_type, value);
}
void tb_consumed_free(tb_consumed *value) {
    value_free(&consumed_type, value);
}
void tb_budget_warning_free(tb_budget_warning *value) {
    value_free(&budget_warning_type, value);
}
void tb_budget_warning_list_free(tb_budget_warning_list *value) {
    value_free(&budget_warning_list_type, value);
}
void tb_held_free(tb_held *value) {
    value_free(&held_type, value);
}
void tb_text_usage_list_free(tb_text_usage_list *value) {
    value_free(&text_usage_list_type, value);
}
void tb_optional_final_budget_free(tb_optional_final_budget *value) {
    value_free(&optional_final_budget_type, value);
}
void tb_changes_free(tb_changes *value) {
    value_free(&changes_type, value);
}
