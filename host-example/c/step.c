#include "step.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Beyond this a count is written as a decimal string. */
#define LARGEST_PORTABLE (UINT64_C(1) << 53)

void give_up(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    exit(2);
}

void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) give_up("no memory left");
    return memory;
}

/* ---- arguments ---- */

void complain(struct run *run, const char *format, ...) {
    if (run->problem[0]) return;
    va_list values;
    va_start(values, format);
    vsnprintf(run->problem, sizeof run->problem, format, values);
    va_end(values);
}

static uint64_t count_of(struct run *run, const json_t *value, const char *name) {
    if (json_is_integer(value) && json_integer_value(value) >= 0) return (uint64_t)json_integer_value(value);
    if (json_is_string(value) && json_string_value(value)[0]) {
        char *end;
        uint64_t count = strtoull(json_string_value(value), &end, 10);
        if (!*end) return count;
    }
    complain(run, "%s is no count", name);
    return 0;
}

static uint32_t small_count_of(struct run *run, const json_t *value, const char *name) {
    uint64_t count = count_of(run, value, name);
    if (count > UINT32_MAX) complain(run, "%s does not fit 32 bits", name);
    return (uint32_t)count;
}

static bool bool_of(struct run *run, const json_t *value, const char *name) {
    if (!json_is_boolean(value)) complain(run, "%s is no boolean", name);
    return json_is_true(value);
}

/* Borrowed from the JSON. */
static tb_text text_of(struct run *run, const json_t *value, const char *name) {
    if (!json_is_string(value)) complain(run, "%s is no text", name);
    return (tb_text){json_string_value(value), json_string_length(value)};
}

static tb_severity severity_of(struct run *run, const json_t *value) {
    const char *name = json_string_value(value);
    if (name && strcmp(name, "warning") == 0) return TB_WARNING;
    if (name && strcmp(name, "critical") == 0) return TB_CRITICAL;
    if (name && strcmp(name, "final") == 0) return TB_FINAL;
    complain(run, "%s is no severity", name ? name : "it");
    return TB_WARNING;
}

/* The items of a list and, in `made`, zeroed memory for what they become. */
static json_t *list_of(struct run *run, json_t *value, const char *name, size_t size, void *made, size_t *count) {
    if (!json_is_array(value)) complain(run, "%s is no list", name);
    *count = json_array_size(value);
    void *items = allocate(*count, size);
    memcpy(made, &items, sizeof items);
    return value;
}

static json_t *get(const json_t *object, const char *name) { return json_object_get(object, name); }

/* A field of the step; each is asked for once. */
static json_t *take(struct run *run, const char *name) {
    json_t *value = get(run->step, name);
    if (value)
        run->taken++;
    else
        complain(run, "%s is missing", name);
    return value;
}

static uint64_t take_count(struct run *run, const char *name) { return count_of(run, take(run, name), name); }
static uint32_t take_small_count(struct run *run, const char *name) {
    return small_count_of(run, take(run, name), name);
}
static tb_text take_text(struct run *run, const char *name) { return text_of(run, take(run, name), name); }

static tb_threshold_list thresholds_of(struct run *run, json_t *value) {
    tb_threshold_list list;
    json_t *items = list_of(run, value, "thresholds", sizeof *list.items, &list.items, &list.count);
    for (size_t index = 0; index < list.count; index++) {
        const json_t *item = json_array_get(items, index);
        list.items[index].percent = small_count_of(run, get(item, "percent"), "percent");
        list.items[index].severity = severity_of(run, get(item, "severity"));
    }
    return list;
}

static tb_threshold_crossed crossed_of(struct run *run, const json_t *value) {
    if (!json_is_number(get(value, "percent_used"))) complain(run, "percent_used is no number");
    return (tb_threshold_crossed){
        .thread_id = text_of(run, get(value, "thread_id"), "thread_id"),
        .threshold_percent = small_count_of(run, get(value, "threshold_percent"), "threshold_percent"),
        .severity = severity_of(run, get(value, "severity")),
        .percent_used = json_number_value(get(value, "percent_used")),
        .tokens_used = count_of(run, get(value, "tokens_used"), "tokens_used"),
        .tokens_remaining = count_of(run, get(value, "tokens_remaining"), "tokens_remaining"),
        .max_tokens = count_of(run, get(value, "max_tokens"), "max_tokens"),
    };
}

static tb_usage_entry *entries_of(struct run *run, json_t *value, size_t *count) {
    tb_usage_entry *entries;
    json_t *items = list_of(run, value, "entries", sizeof *entries, &entries, count);
    for (size_t index = 0; index < *count; index++) {
        const json_t *item = json_array_get(items, index);
        entries[index].thread_id = text_of(run, get(item, "thread_id"), "thread_id");
        entries[index].prompt_tokens = count_of(run, get(item, "prompt_tokens"), "prompt_tokens");
        entries[index].completion_tokens = count_of(run, get(item, "completion_tokens"), "completion_tokens");
    }
    return entries;
}

static tb_optional_text optional_text_of(struct run *run, const json_t *value, const char *name) {
    if (!value || json_is_null(value)) return (tb_optional_text){false, {NULL, 0}};
    return (tb_optional_text){true, text_of(run, value, name)};
}

static tb_thread_options options_of(struct run *run, const json_t *value) {
    tb_thread_options options = {.parent = optional_text_of(run, get(value, "parent"), "parent")};
    const json_t *max_tokens = get(value, "max_tokens");
    if (max_tokens && !json_is_null(max_tokens)) {
        options.max_tokens.some = true;
        options.max_tokens.value = count_of(run, max_tokens, "max_tokens");
    }
    return options;
}

static tb_thread_state state_of(struct run *run, const json_t *value) {
    tb_thread_state state = {
        .thread_id = text_of(run, get(value, "thread_id"), "thread_id"),
        .parent = optional_text_of(run, get(value, "parent"), "parent"),
        .opened = bool_of(run, get(value, "opened"), "opened"),
        .max_tokens = count_of(run, get(value, "max_tokens"), "max_tokens"),
        .prompt_tokens = count_of(run, get(value, "prompt_tokens"), "prompt_tokens"),
        .completion_tokens = count_of(run, get(value, "completion_tokens"), "completion_tokens"),
        .request_count = count_of(run, get(value, "request_count"), "request_count"),
        .undelivered_thresholds = thresholds_of(run, get(value, "undelivered_thresholds")),
    };
    tb_percent_list *triggered = &state.triggered_thresholds;
    json_t *items = list_of(run, get(value, "triggered_thresholds"), "triggered_thresholds", sizeof *triggered->items,
                            &triggered->items, &triggered->count);
    for (size_t index = 0; index < triggered->count; index++)
        triggered->items[index] = small_count_of(run, json_array_get(items, index), "triggered_thresholds");
    tb_text_list *requests = &state.request_ids;
    items = list_of(run, get(value, "request_ids"), "request_ids", sizeof *requests->items, &requests->items,
                    &requests->count);
    for (size_t index = 0; index < requests->count; index++)
        requests->items[index] = text_of(run, json_array_get(items, index), "request_ids");
    return state;
}

static struct name *handle_of(struct run *run) {
    const char *name = json_string_value(take(run, "on"));
    for (size_t index = 0; name && index < run->handle_count; index++)
        if (strcmp(run->handles[index].text, name) == 0) return &run->handles[index];
    complain(run, "there is no handle of that name");
    static struct name none;
    return &none;
}

/* Where the handle that a call makes is kept; one of that name is replaced. */
static struct name *new_handle(struct run *run) {
    const char *name = json_string_value(take(run, "as"));
    size_t index = 0;
    while (name && index < run->handle_count && strcmp(run->handles[index].text, name) != 0) index++;
    if (!name || index == MOST_HANDLES) give_up("a step makes a handle without name, or one too many");
    if (index == run->handle_count) run->handle_count++;
    tb_budget_free(run->handles[index].budget);
    tb_reservation_free(run->handles[index].reservation);
    run->handles[index] = (struct name){.text = name};
    return &run->handles[index];
}

/* ---- results; each takes what it is given ---- */

static json_t *count_json(uint64_t count) {
    if (count <= LARGEST_PORTABLE) return json_integer((json_int_t)count);
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    return json_string(digits);
}

static json_t *text_json(const tb_text *text) { return json_stringn(text->data, text->length); }

static json_t *severity_json(tb_severity severity) {
    static const char *const names[] = {"warning", "critical", "final"};
    return json_string(names[severity]);
}

static json_t *usage_json(const tb_usage *usage) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "prompt_tokens", count_json(usage->prompt_tokens),
                     "completion_tokens", count_json(usage->completion_tokens), "total_tokens",
                     count_json(usage->total_tokens), "remaining", count_json(usage->remaining), "max_tokens",
                     count_json(usage->max_tokens), "request_count", count_json(usage->request_count));
}

static json_t *optional_usage_json(const tb_optional_usage *usage) {
    return usage->some ? usage_json(&usage->value) : json_null();
}

static json_t *crossed_json(tb_threshold_crossed_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++) {
        const tb_threshold_crossed *crossed = &list->items[index];
        json_array_append_new(
            items, json_pack("{s:o, s:i, s:o, s:f, s:o, s:o, s:o}", "thread_id", text_json(&crossed->thread_id),
                             "threshold_percent", (int)crossed->threshold_percent, "severity",
                             severity_json(crossed->severity), "percent_used", crossed->percent_used, "tokens_used",
                             count_json(crossed->tokens_used), "tokens_remaining",
                             count_json(crossed->tokens_remaining), "max_tokens", count_json(crossed->max_tokens)));
    }
    tb_threshold_crossed_list_free(list);
    return items;
}

static json_t *consumed_json(tb_consumed *consumed) {
    json_t *value = json_pack("{s:o, s:o, s:b}", "usage", usage_json(&consumed->usage), "crossed",
                              crossed_json(&consumed->crossed), "repeated", (int)consumed->repeated);
    tb_consumed_free(consumed);
    return value;
}

static json_t *warning_json(const tb_budget_warning *warning) {
    return json_pack("{s:f, s:o, s:o, s:o, s:o, s:o}", "percent_used", warning->percent_used, "tokens_used",
                     count_json(warning->tokens_used), "tokens_remaining", count_json(warning->tokens_remaining),
                     "max_tokens", count_json(warning->max_tokens), "severity", severity_json(warning->severity),
                     "message", text_json(&warning->message));
}

static json_t *warnings_json(tb_budget_warning_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++)
        json_array_append_new(items, warning_json(&list->items[index]));
    tb_budget_warning_list_free(list);
    return items;
}

/* Borrowed. */
static json_t *thresholds_json(const tb_threshold_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++)
        json_array_append_new(items, json_pack("{s:i, s:o}", "percent", (int)list->items[index].percent, "severity",
                                               severity_json(list->items[index].severity)));
    return items;
}

/* Borrowed. */
static json_t *percents_json(const tb_percent_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++)
        json_array_append_new(items, json_integer(list->items[index]));
    return items;
}

static json_t *all_usage_json(tb_thread_usage_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++)
        json_array_append_new(items, json_pack("[o, o]", text_json(&list->items[index].thread_id),
                                               usage_json(&list->items[index].usage)));
    tb_thread_usage_list_free(list);
    return items;
}

static json_t *final_budget_json(tb_optional_final_budget *budget) {
    json_t *value = json_null();
    if (budget->some)
        value = json_pack("{s:o, s:f, s:o}", "usage", usage_json(&budget->value.usage), "percent_used",
                          budget->value.percent_used, "triggered_thresholds",
                          percents_json(&budget->value.triggered_thresholds));
    tb_optional_final_budget_free(budget);
    return value;
}

/* Borrowed. */
static json_t *optional_text_json(const tb_optional_text *text) {
    return text->some ? text_json(&text->value) : json_null();
}

static json_t *state_json(const tb_thread_state *state) {
    json_t *requests = json_array();
    for (size_t index = 0; index < state->request_ids.count; index++)
        json_array_append_new(requests, text_json(&state->request_ids.items[index]));
    return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "thread_id", text_json(&state->thread_id),
                     "parent", optional_text_json(&state->parent), "opened", (int)state->opened, "max_tokens",
                     count_json(state->max_tokens), "prompt_tokens", count_json(state->prompt_tokens),
                     "completion_tokens", count_json(state->completion_tokens), "request_count",
                     count_json(state->request_count), "triggered_thresholds",
                     percents_json(&state->triggered_thresholds), "undelivered_thresholds",
                     thresholds_json(&state->undelivered_thresholds), "request_ids", requests);
}

static json_t *states_json(tb_thread_state_list *list) {
    json_t *items = json_array();
    for (size_t index = 0; index < list->count; index++)
        json_array_append_new(items, state_json(&list->items[index]));
    tb_thread_state_list_free(list);
    return items;
}

json_t *failure_json(const tb_error *error) {
    const char *name = tb_code_name(error->code);
    switch (error->code) {
    case TB_EXHAUSTED:
        return json_pack("{s:{s:o, s:o, s:o, s:o}}", name, "thread_id",
                         json_stringn(error->thread_id, error->thread_id_length), "used", count_json(error->used),
                         "max_tokens", count_json(error->max_tokens), "requested", count_json(error->requested));
    case TB_UNKNOWN_PARENT:
    case TB_PARENT_CYCLE:
    case TB_OPTIONS_DIFFER:
        return json_pack("{s:o}", name, json_stringn(error->thread_id, error->thread_id_length));
    case TB_TOO_MANY_THREADS:
    case TB_INVALID_THRESHOLD:
    case TB_TOO_DEEP:
    case TB_BATCH_TOO_LARGE:
        return json_pack("{s:o}", name, count_json(error->limit));
    default:
        return json_string(name);
    }
}

/* ---- a step ---- */

tb_code make_call(struct run *run, json_t **returns, tb_error *error) {
    tb_registry *registry = run->registry;
    const char *call = json_string_value(take(run, "call"));
    tb_code code = TB_OK;
    *returns = NULL;
    if (!call) {
        complain(run, "it is no call");
        return code;
    }
#define IS(name) (strcmp(call, name) == 0)
/* When the arguments are good, make the call; when it succeeds, the result is this. */
#define GIVES(made, result)                                                                                            \
    do {                                                                                                               \
        if (run->problem[0]) break;                                                                                    \
        code = (made);                                                                                                 \
        if (code == TB_OK) *returns = (result);                                                                        \
    } while (0)
#define GIVES_NOTHING(made) GIVES(made, json_null())

    if (IS("configure")) {
        uint64_t limit = take_count(run, "max_tokens_per_thread");
        GIVES_NOTHING(tb_configure(registry, limit, error));
    } else if (IS("max-tokens-per-thread")) {
        uint64_t limit;
        GIVES(tb_max_tokens_per_thread(registry, &limit, error), count_json(limit));
    } else if (IS("set-thresholds")) {
        tb_threshold_list thresholds = thresholds_of(run, take(run, "thresholds"));
        GIVES_NOTHING(tb_set_thresholds(registry, thresholds.items, thresholds.count, error));
        free(thresholds.items);
    } else if (IS("thresholds")) {
        tb_threshold_list thresholds;
        GIVES(tb_thresholds(registry, &thresholds, error), thresholds_json(&thresholds));
        if (*returns) tb_threshold_list_free(&thresholds);
    } else if (IS("set-max-threads")) {
        uint32_t limit = take_small_count(run, "max_threads");
        GIVES_NOTHING(tb_set_max_threads(registry, limit, error));
    } else if (IS("get-budget")) {
        tb_text thread_id = take_text(run, "thread_id");
        struct name *handle = new_handle(run);
        GIVES_NOTHING(tb_get_budget(registry, thread_id, &handle->budget, error));
    } else if (IS("open-thread")) {
        tb_text thread_id = take_text(run, "thread_id");
        tb_thread_options options = options_of(run, take(run, "options"));
        struct name *handle = new_handle(run);
        GIVES_NOTHING(tb_open_thread(registry, thread_id, &options, &handle->budget, error));
    } else if (IS("set-limit")) {
        tb_text thread_id = take_text(run, "thread_id");
        uint64_t limit = take_count(run, "max_tokens");
        tb_usage usage;
        GIVES(tb_set_limit(registry, thread_id, limit, &usage, error), usage_json(&usage));
    } else if (IS("check-budget")) {
        tb_text thread_id = take_text(run, "thread_id");
        uint64_t estimate = take_count(run, "estimated_tokens");
        GIVES_NOTHING(tb_check_budget(registry, thread_id, estimate, error));
    } else if (IS("reserve")) {
        tb_text thread_id = take_text(run, "thread_id");
        uint64_t estimate = take_count(run, "estimated_tokens");
        struct name *handle = new_handle(run);
        GIVES_NOTHING(tb_reserve(registry, thread_id, estimate, &handle->reservation, error));
    } else if (IS("consume")) {
        tb_text thread_id = take_text(run, "thread_id");
        uint64_t prompt = take_count(run, "prompt_tokens"), completion = take_count(run, "completion_tokens");
        tb_consumed consumed;
        GIVES(tb_consume(registry, thread_id, prompt, completion, &consumed, error), consumed_json(&consumed));
    } else if (IS("consume-once")) {
        tb_text thread_id = take_text(run, "thread_id"), request_id = take_text(run, "request_id");
        uint64_t prompt = take_count(run, "prompt_tokens"), completion = take_count(run, "completion_tokens");
        tb_consumed consumed;
        GIVES(tb_consume_once(registry, thread_id, request_id, prompt, completion, &consumed, error),
              consumed_json(&consumed));
    } else if (IS("consume-batch")) {
        size_t count;
        tb_usage_entry *entries = entries_of(run, take(run, "entries"), &count);
        tb_threshold_crossed_list crossed;
        GIVES(tb_consume_batch(registry, entries, count, &crossed, error), crossed_json(&crossed));
        free(entries);
    } else if (IS("take-warnings")) {
        tb_text thread_id = take_text(run, "thread_id");
        tb_budget_warning_list warnings;
        GIVES(tb_take_warnings(registry, thread_id, &warnings, error), warnings_json(&warnings));
    } else if (IS("has-budget")) {
        tb_text thread_id = take_text(run, "thread_id");
        bool exists;
        GIVES(tb_has_budget(registry, thread_id, &exists, error), json_boolean(exists));
    } else if (IS("get-usage")) {
        tb_text thread_id = take_text(run, "thread_id");
        tb_optional_usage usage;
        GIVES(tb_get_usage(registry, thread_id, &usage, error), optional_usage_json(&usage));
    } else if (IS("get-all-usage")) {
        tb_thread_usage_list usages;
        GIVES(tb_get_all_usage(registry, &usages, error), all_usage_json(&usages));
    } else if (IS("held-tokens")) {
        tb_text thread_id = take_text(run, "thread_id");
        uint64_t tokens;
        GIVES(tb_held_tokens(registry, thread_id, &tokens, error), count_json(tokens));
    } else if (IS("reset-thread")) {
        tb_text thread_id = take_text(run, "thread_id");
        GIVES_NOTHING(tb_reset_thread(registry, thread_id, error));
    } else if (IS("cleanup-thread")) {
        tb_text thread_id = take_text(run, "thread_id");
        tb_optional_final_budget budget;
        GIVES(tb_cleanup_thread(registry, thread_id, &budget, error), final_budget_json(&budget));
    } else if (IS("clear")) {
        GIVES_NOTHING(tb_clear(registry, error));
    } else if (IS("snapshot")) {
        tb_optional_text after = optional_text_of(run, take(run, "after"), "after");
        uint32_t limit = take_small_count(run, "limit");
        tb_thread_state_list states;
        GIVES(tb_snapshot(registry, after.some ? &after.value : NULL, limit, &states, error), states_json(&states));
    } else if (IS("restore")) {
        size_t count;
        tb_thread_state *states;
        json_t *items = list_of(run, take(run, "states"), "states", sizeof *states, &states, &count);
        for (size_t index = 0; index < count; index++) states[index] = state_of(run, json_array_get(items, index));
        GIVES_NOTHING(tb_restore(registry, states, count, error));
        for (size_t index = 0; index < count; index++) {
            free(states[index].triggered_thresholds.items);
            free(states[index].undelivered_thresholds.items);
            free(states[index].request_ids.items);
        }
        free(states);
    } else if (IS("budget-warning")) {
        tb_threshold_crossed crossed = crossed_of(run, take(run, "crossed"));
        tb_budget_warning warning;
        GIVES(tb_budget_warning_of(registry, &crossed, &warning, error), warning_json(&warning));
        if (*returns) tb_budget_warning_free(&warning);
    } else if (IS("thread-budget.thread-id")) {
        tb_text thread_id;
        GIVES(tb_budget_thread_id(handle_of(run)->budget, &thread_id, error), text_json(&thread_id));
        if (*returns) tb_text_free(&thread_id);
    } else if (IS("thread-budget.usage")) {
        tb_usage usage;
        GIVES(tb_budget_usage(handle_of(run)->budget, &usage, error), usage_json(&usage));
    } else if (IS("thread-budget.percent-used")) {
        double percent;
        GIVES(tb_budget_percent_used(handle_of(run)->budget, &percent, error), json_real(percent));
    } else if (IS("thread-budget.is-exhausted")) {
        bool exhausted;
        GIVES(tb_budget_is_exhausted(handle_of(run)->budget, &exhausted, error), json_boolean(exhausted));
    } else if (IS("thread-budget.held-tokens")) {
        uint64_t tokens;
        GIVES(tb_budget_held_tokens(handle_of(run)->budget, &tokens, error), count_json(tokens));
    } else if (IS("thread-budget.is-detached")) {
        bool detached;
        GIVES(tb_budget_is_detached(handle_of(run)->budget, &detached, error), json_boolean(detached));
    } else if (IS("thread-budget.can-consume")) {
        uint64_t estimate = take_count(run, "estimated_tokens");
        bool fits;
        GIVES(tb_budget_can_consume(handle_of(run)->budget, estimate, &fits, error), json_boolean(fits));
    } else if (IS("thread-budget.consume")) {
        uint64_t prompt = take_count(run, "prompt_tokens"), completion = take_count(run, "completion_tokens");
        tb_consumed consumed;
        GIVES(tb_budget_consume(handle_of(run)->budget, prompt, completion, &consumed, error),
              consumed_json(&consumed));
    } else if (IS("thread-budget.triggered-thresholds")) {
        tb_percent_list percents;
        GIVES(tb_budget_triggered_thresholds(handle_of(run)->budget, &percents, error), percents_json(&percents));
        if (*returns) tb_percent_list_free(&percents);
    } else if (IS("thread-budget.check-thresholds")) {
        tb_threshold_list thresholds = thresholds_of(run, take(run, "thresholds"));
        tb_threshold_crossed_list crossed;
        GIVES(tb_budget_check_thresholds(handle_of(run)->budget, thresholds.items, thresholds.count, &crossed, error),
              crossed_json(&crossed));
        free(thresholds.items);
    } else if (IS("reservation.tokens")) {
        uint64_t tokens;
        GIVES(tb_reservation_tokens(handle_of(run)->reservation, &tokens, error), count_json(tokens));
    } else if (IS("reservation.charged-thread")) {
        tb_optional_text thread_id;
        GIVES(tb_reservation_charged_thread(handle_of(run)->reservation, &thread_id, error),
              optional_text_json(&thread_id));
        if (*returns) tb_optional_text_free(&thread_id);
    } else if (IS("reservation.commit")) {
        uint64_t prompt = take_count(run, "prompt_tokens"), completion = take_count(run, "completion_tokens");
        tb_consumed consumed;
        GIVES(tb_reservation_commit(&handle_of(run)->reservation, prompt, completion, &consumed, error),
              consumed_json(&consumed));
    } else if (IS("reservation.drop")) {
        struct name *handle = handle_of(run);
        tb_reservation_free(handle->reservation);
        handle->reservation = NULL;
        *returns = json_null();
    } else {
        complain(run, "the call %s is not known", call);
    }
    return code;
}
