#include "contract.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define KIND(name) .kind = WASMTIME_COMPONENT_VALTYPE_##name
#define RECORD(c_type, fields) {KIND(RECORD), .size = sizeof(c_type), .members = fields, .count = COUNT(fields)}
#define LIST(element_type) {KIND(LIST), .size = sizeof(struct list), .element = &element_type}
#define OPTION(c_type, element_type)                                                                                   \
    {KIND(OPTION), .size = sizeof(c_type), .element = &element_type, .offset = offsetof(c_type, value)}
#define RESULT(success) {KIND(RESULT), .element = success, .failure = &registry_error_type}

static const struct type bool_type = {KIND(BOOL), .size = sizeof(bool)};
static const struct type u32_type = {KIND(U32), .size = sizeof(uint32_t)};
static const struct type u64_type = {KIND(U64), .size = sizeof(uint64_t)};
static const struct type f64_type = {KIND(F64), .size = sizeof(double)};
const struct type text_type = {KIND(STRING), .size = sizeof(tb_text)};
/* What a call takes or gives is a pointer to the handle. */
static const struct type own_type = {KIND(OWN), .size = sizeof(wasmtime_component_resource_any_t *)};
static const struct type borrow_type = {KIND(BORROW), .size = sizeof(wasmtime_component_resource_any_t *)};

const struct type optional_text_type = OPTION(tb_optional_text, text_type);
static const struct type optional_tokens_type = OPTION(tb_optional_tokens, u64_type);
static const struct type text_list_type = LIST(text_type);
const struct type percent_list_type = LIST(u32_type);

static const struct member severities[] = {{.name = "warning"}, {.name = "critical"}, {.name = "final"}};
static const struct type severity_type = {
    KIND(ENUM), .size = sizeof(tb_severity), .members = severities, .count = COUNT(severities)};

#define FIELD(name, type, field) {name, &type, offsetof(RECORD_OF, field)}

#define RECORD_OF tb_threshold
static const struct member threshold_fields[] = {
    FIELD("percent", u32_type, percent),
    FIELD("severity", severity_type, severity),
};
static const struct type threshold_type = RECORD(RECORD_OF, threshold_fields);
const struct type threshold_list_type = LIST(threshold_type);

#undef RECORD_OF
#define RECORD_OF tb_usage
static const struct member usage_fields[] = {
    FIELD("prompt-tokens", u64_type, prompt_tokens), FIELD("completion-tokens", u64_type, completion_tokens),
    FIELD("total-tokens", u64_type, total_tokens),   FIELD("remaining", u64_type, remaining),
    FIELD("max-tokens", u64_type, max_tokens),       FIELD("request-count", u64_type, request_count),
};
static const struct type usage_type = RECORD(RECORD_OF, usage_fields);
static const struct type optional_usage_type = OPTION(tb_optional_usage, usage_type);

#undef RECORD_OF
#define RECORD_OF tb_thread_usage
static const struct member thread_usage_fields[] = {
    FIELD(NULL, text_type, thread_id),
    FIELD(NULL, usage_type, usage),
};
static const struct type thread_usage_type = {KIND(TUPLE), .size = sizeof(RECORD_OF), .members = thread_usage_fields,
                                              .count = COUNT(thread_usage_fields)};
const struct type thread_usage_list_type = LIST(thread_usage_type);

#undef RECORD_OF
#define RECORD_OF tb_threshold_crossed
static const struct member threshold_crossed_fields[] = {
    FIELD("thread-id", text_type, thread_id),
    FIELD("threshold-percent", u32_type, threshold_percent),
    FIELD("severity", severity_type, severity),
    FIELD("percent-used", f64_type, percent_used),
    FIELD("tokens-used", u64_type, tokens_used),
    FIELD("tokens-remaining", u64_type, tokens_remaining),
    FIELD("max-tokens", u64_type, max_tokens),
};
static const struct type threshold_crossed_type = RECORD(RECORD_OF, threshold_crossed_fields);
const struct type threshold_crossed_list_type = LIST(threshold_crossed_type);

#undef RECORD_OF
#define RECORD_OF tb_budget_warning
static const struct member budget_warning_fields[] = {
    FIELD("percent-used", f64_type, percent_used),
    FIELD("tokens-used", u64_type, tokens_used),
    FIELD("tokens-remaining", u64_type, tokens_remaining),
    FIELD("max-tokens", u64_type, max_tokens),
    FIELD("severity", severity_type, severity),
    FIELD("message", text_type, message),
};
const struct type budget_warning_type = RECORD(RECORD_OF, budget_warning_fields);
const struct type budget_warning_list_type = LIST(budget_warning_type);

#undef RECORD_OF
#define RECORD_OF tb_consumed
static const struct member consumed_fields[] = {
    FIELD("usage", usage_type, usage),
    FIELD("crossed", threshold_crossed_list_type, crossed),
    FIELD("repeated", bool_type, repeated),
};
const struct type consumed_type = RECORD(RECORD_OF, consumed_fields);

#undef RECORD_OF
#define RECORD_OF tb_usage_entry
static const struct member usage_entry_fields[] = {
    FIELD("thread-id", text_type, thread_id),
    FIELD("prompt-tokens", u64_type, prompt_tokens),
    FIELD("completion-tokens", u64_type, completion_tokens),
};
static const struct type usage_entry_type = RECORD(RECORD_OF, usage_entry_fields);
static const struct type usage_entry_list_type = LIST(usage_entry_type);

#undef RECORD_OF
#define RECORD_OF tb_thread_options
static const struct member thread_options_fields[] = {
    FIELD("max-tokens", optional_tokens_type, max_tokens),
    FIELD("parent", optional_text_type, parent),
};
static const struct type thread_options_type = RECORD(RECORD_OF, thread_options_fields);

#undef RECORD_OF
#define RECORD_OF tb_thread_state
static const struct member thread_state_fields[] = {
    FIELD("thread-id", text_type, thread_id),
    FIELD("parent", optional_text_type, parent),
    FIELD("opened", bool_type, opened),
    FIELD("max-tokens", u64_type, max_tokens),
    FIELD("prompt-tokens", u64_type, prompt_tokens),
    FIELD("completion-tokens", u64_type, completion_tokens),
    FIELD("request-count", u64_type, request_count),
    FIELD("triggered-thresholds", percent_list_type, triggered_thresholds),
    FIELD("undelivered-thresholds", threshold_list_type, undelivered_thresholds),
    FIELD("request-ids", text_list_type, request_ids),
};
static const struct type thread_state_type = RECORD(RECORD_OF, thread_state_fields);
const struct type thread_state_list_type = LIST(thread_state_type);

#undef RECORD_OF
#define RECORD_OF tb_final_budget
static const struct member final_budget_fields[] = {
    FIELD("usage", usage_type, usage),
    FIELD("percent-used", f64_type, percent_used),
    FIELD("triggered-thresholds", percent_list_type, triggered_thresholds),
};
static const struct type final_budget_type = RECORD(RECORD_OF, final_budget_fields);
const struct type optional_final_budget_type = OPTION(tb_optional_final_budget, final_budget_type);

#undef RECORD_OF
#define RECORD_OF tb_error
static const struct member budget_exhausted_fields[] = {
    /* Its place is not used: the text goes into an array. */
    FIELD("thread-id", text_type, thread_id),
    FIELD("used", u64_type, used),
    FIELD("max-tokens", u64_type, max_tokens),
    FIELD("requested", u64_type, requested),
};
static const struct type budget_exhausted_type = RECORD(RECORD_OF, budget_exhausted_fields);

static const struct member registry_error_cases[] = {
    {.name = "exhausted", .type = &budget_exhausted_type},
    {.name = "invalid-thread-id", .type = &text_type},
    {.name = "too-many-threads", .type = &u32_type},
    {.name = "invalid-threshold", .type = &u32_type},
    {.name = "out-of-memory"},
    {.name = "unknown-parent", .type = &text_type},
    {.name = "parent-cycle", .type = &text_type},
    {.name = "too-deep", .type = &u32_type},
    {.name = "options-differ", .type = &text_type},
    {.name = "invalid-request-id", .type = &text_type},
    {.name = "batch-too-large", .type = &u32_type},
    {.name = "invalid-state", .type = &text_type},
};
_Static_assert(COUNT(registry_error_cases) == TB_INVALID_STATE, "the codes and the cases are the same");
const struct type registry_error_type = {KIND(VARIANT), .members = registry_error_cases,
                                         .count = COUNT(registry_error_cases)};

static const struct type result_of_nothing = RESULT(NULL);
static const struct type result_of_handle = RESULT(&own_type);
static const struct type result_of_usage = RESULT(&usage_type);
static const struct type result_of_consumed = RESULT(&consumed_type);
static const struct type result_of_crossed_list = RESULT(&threshold_crossed_list_type);

#define REGISTRY "thread-budget:registry/registry@0.1.0"
#define WARNINGS "thread-budget:registry/warnings@0.1.0"
#define TEXT &text_type
#define U32 &u32_type
#define U64 &u64_type
#define BORROW &borrow_type

const struct signature signatures[FUNCTIONS] = {
    [CONFIGURE] = {REGISTRY, "configure", {U64}, NULL},
    [MAX_TOKENS_PER_THREAD] = {REGISTRY, "max-tokens-per-thread", {NULL}, U64},
    [SET_THRESHOLDS] = {REGISTRY, "set-thresholds", {&threshold_list_type}, &result_of_nothing},
    [THRESHOLDS] = {REGISTRY, "thresholds", {NULL}, &threshold_list_type},
    [SET_MAX_THREADS] = {REGISTRY, "set-max-threads", {U32}, NULL},
    [GET_BUDGET] = {REGISTRY, "get-budget", {TEXT}, &result_of_handle},
    [OPEN_THREAD] = {REGISTRY, "open-thread", {TEXT, &thread_options_type}, &result_of_handle},
    [SET_LIMIT] = {REGISTRY, "set-limit", {TEXT, U64}, &result_of_usage},
    [CHECK_BUDGET] = {REGISTRY, "check-budget", {TEXT, U64}, &result_of_nothing},
    [RESERVE] = {REGISTRY, "reserve", {TEXT, U64}, &result_of_handle},
    [CONSUME] = {REGISTRY, "consume", {TEXT, U64, U64}, &result_of_consumed},
    [CONSUME_ONCE] = {REGISTRY, "consume-once", {TEXT, TEXT, U64, U64}, &result_of_consumed},
    [CONSUME_BATCH] = {REGISTRY, "consume-batch", {&usage_entry_list_type}, &result_of_crossed_list},
    [TAKE_WARNINGS] = {REGISTRY, "take-warnings", {TEXT}, &budget_warning_list_type},
    [HAS_BUDGET] = {REGISTRY, "has-budget", {TEXT}, &bool_type},
    [GET_USAGE] = {REGISTRY, "get-usage", {TEXT}, &optional_usage_type},
    [GET_ALL_USAGE] = {REGISTRY, "get-all-usage", {NULL}, &thread_usage_list_type},
    [HELD_TOKENS] = {REGISTRY, "held-tokens", {TEXT}, U64},
    [RESET_THREAD] = {REGISTRY, "reset-thread", {TEXT}, NULL},
    [CLEANUP_THREAD] = {REGISTRY, "cleanup-thread", {TEXT}, &optional_final_budget_type},
    [CLEAR] = {REGISTRY, "clear", {NULL}, NULL},
    [SNAPSHOT] = {REGISTRY, "snapshot", {&optional_text_type, U32}, &thread_state_list_type},
    [RESTORE] = {REGISTRY, "restore", {&thread_state_list_type}, &result_of_nothing},
    [BUDGET_WARNING] = {WARNINGS, "budget-warning", {&threshold_crossed_type}, &budget_warning_type},
    [BUDGET_THREAD_ID] = {REGISTRY, "[method]thread-budget.thread-id", {BORROW}, TEXT},
    [BUDGET_USAGE] = {REGISTRY, "[method]thread-budget.usage", {BORROW}, &usage_type},
    [BUDGET_PERCENT_USED] = {REGISTRY, "[method]thread-budget.percent-used", {BORROW}, &f64_type},
    [BUDGET_IS_EXHAUSTED] = {REGISTRY, "[method]thread-budget.is-exhausted", {BORROW}, &bool_type},
    [BUDGET_HELD_TOKENS] = {REGISTRY, "[method]thread-budget.held-tokens", {BORROW}, U64},
    [BUDGET_IS_DETACHED] = {REGISTRY, "[method]thread-budget.is-detached", {BORROW}, &bool_type},
    [BUDGET_CAN_CONSUME] = {REGISTRY, "[method]thread-budget.can-consume", {BORROW, U64}, &bool_type},
    [BUDGET_CONSUME] = {REGISTRY, "[method]thread-budget.consume", {BORROW, U64, U64}, &consumed_type},
    [BUDGET_TRIGGERED_THRESHOLDS] = {REGISTRY, "[method]thread-budget.triggered-thresholds", {BORROW},
                                     &percent_list_type},
    [BUDGET_CHECK_THRESHOLDS] = {REGISTRY, "[method]thread-budget.check-thresholds", {BORROW, &threshold_list_type},
                                 &threshold_crossed_list_type},
    [RESERVATION_TOKENS] = {REGISTRY, "[method]reservation.tokens", {BORROW}, U64},
    [RESERVATION_CHARGED_THREAD] = {REGISTRY, "[method]reservation.charged-thread", {BORROW}, &optional_text_type},
    [RESERVATION_COMMIT] = {REGISTRY, "[static]reservation.commit", {&own_type, U64, U64}, &consumed_type},
};
