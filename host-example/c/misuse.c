/* What must not hurt: `misuse COMPONENT`. Every bad input gets its code, the registry is usable afterwards, and an
 * instance that fails is lost alone. The vectors say what good input does. */
#include "thread_budget.h"
#include <stdio.h>
#include <stdlib.h>

static tb_error error;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold; the last error: %s\n", __FILE__, __LINE__, #condition,           \
                    error.message);                                                                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const tb_text a = {"a", 1};

static uint64_t total_of(tb_registry *registry, tb_text thread_id) {
    tb_optional_usage usage;
    CHECK(tb_get_usage(registry, thread_id, &usage, &error) == TB_OK);
    return usage.some ? usage.value.total_tokens : 0;
}

static void consume(tb_registry *registry, tb_text thread_id, uint64_t tokens) {
    tb_consumed consumed;
    CHECK(tb_consume(registry, thread_id, tokens, 0, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
}

static tb_registry *fresh(const tb_component *component, size_t max_memory_bytes) {
    tb_registry *registry;
    CHECK(tb_registry_new(component, max_memory_bytes, &registry, &error) == TB_OK);
    return registry;
}

static void null_is_refused(const tb_component *component, tb_registry *registry) {
    bool exists;
    uint64_t tokens;
    tb_component *made;
    tb_thread_budget *budget;
    CHECK(tb_component_open(NULL, &made, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_component_new(NULL, 0, &made, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_registry_new(NULL, 0, &registry, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_registry_new(component, 0, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_clear(NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_has_budget(registry, tb_text_of(NULL), &exists, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_has_budget(registry, (tb_text){NULL, 7}, &exists, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_has_budget(registry, a, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_consume(registry, a, 5, 0, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(total_of(registry, a) == 0);
    CHECK(tb_get_budget(registry, a, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_set_limit(registry, a, 1, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_hold(registry, a, a, 1, 1, 1, 0, 0, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_open_thread(registry, a, NULL, &budget, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_thread_budget_held_tokens(NULL, &tokens, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_set_thresholds(registry, NULL, 3, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_restore(registry, NULL, 1, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_acknowledge_warnings(registry, a, NULL, 1, &error) == TB_INVALID_ARGUMENT);
    tb_budget_warning warning;
    CHECK(tb_budget_warning_of(registry, NULL, &warning, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_budget_warning_of(registry, &(tb_threshold_crossed){.max_tokens = 1}, &warning, &error) ==
          TB_INVALID_ARGUMENT);
    /* Without a place for details, too. */
    CHECK(tb_check_budget(registry, tb_text_of(""), 1, NULL) == TB_INVALID_THREAD_ID);
    CHECK(tb_check_budget(registry, tb_text_of("\xff"), 1, NULL) == TB_INVALID_UTF8);
    tb_component_free(NULL);
    tb_registry_free(NULL);
    tb_thread_budget_free(NULL);
    tb_held_free(NULL);
    tb_consumed_free(NULL);
}

static void text_is_utf8(tb_registry *registry) {
    static const char *const bad[] = {"\x80",     "\xc0\xaf",         "\xc3",     "\xc3(",     "\xe0\x80\x80",
                                      "\xe2\x82", "\xed\xa0\x80",     "\xf8\x88", "\xfe",      "\xf0\x80\x80\x80",
                                      "\xf0\x9f", "\xf4\x90\x80\x80", "a\xff",    "\xe4\xb8" "a", "\xf5\x80\x80\x80"};
    for (size_t index = 0; index < sizeof bad / sizeof bad[0]; index++)
        CHECK(tb_check_budget(registry, tb_text_of(bad[index]), 1, &error) == TB_INVALID_UTF8);
    static const char *const good[] = {"\x7f",         "\xc2\x80",     "\xdf\xbf",         "\xe0\xa0\x80",
                                       "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    for (size_t index = 0; index < sizeof good / sizeof good[0]; index++)
        CHECK(tb_check_budget(registry, tb_text_of(good[index]), 1, &error) == TB_OK);
    /* In what a call takes by pointer, too. */
    tb_usage_entry entries[] = {{a, 1, 1}, {{"\xff", 1}, 1, 1}};
    tb_threshold_crossed_list crossed;
    CHECK(tb_consume_batch(registry, entries, 2, &crossed, &error) == TB_INVALID_UTF8);
    CHECK(total_of(registry, a) == 0);
}

/* More than any instance of this test could take. */
static char long_text[64 << 20];
static const tb_text far_too_long = {long_text, sizeof long_text};

/* Of a batch, by the contract. */
#define MOST_ENTRIES 4096

static void sizes_are_bounded(tb_registry *registry) {
    bool exists;
    CHECK(tb_check_budget(registry, (tb_text){long_text, TB_MAX_THREAD_ID_BYTES}, 1, &error) == TB_OK);
    CHECK(tb_check_budget(registry, (tb_text){long_text, TB_MAX_THREAD_ID_BYTES + 1}, 1, &error) ==
          TB_INVALID_THREAD_ID);
    CHECK(tb_check_budget(registry, far_too_long, 1, &error) == TB_INVALID_THREAD_ID);
    CHECK(tb_has_budget(registry, far_too_long, &exists, &error) == TB_OK && !exists);
    tb_consumed consumed;
    CHECK(tb_settle(registry, a, far_too_long, 1, 1, true, &consumed, &error) == TB_INVALID_REQUEST_ID);

    static tb_usage_entry entries[MOST_ENTRIES + 1];
    for (size_t index = 0; index <= MOST_ENTRIES; index++) entries[index] = (tb_usage_entry){a, 1, 0};
    tb_threshold_crossed_list crossed;
    uint64_t before = total_of(registry, a);
    CHECK(tb_consume_batch(registry, entries, MOST_ENTRIES + 1, &crossed, &error) == TB_BATCH_TOO_LARGE);
    CHECK(error.limit == MOST_ENTRIES);
    CHECK(tb_consume_batch(registry, entries, SIZE_MAX, &crossed, &error) == TB_ARGUMENT_TOO_LARGE);
    size_t overflowing = SIZE_MAX / sizeof entries[0] + 2;
    CHECK(tb_consume_batch(registry, entries, overflowing, &crossed, &error) == TB_ARGUMENT_TOO_LARGE);
    CHECK(total_of(registry, a) == before);
    CHECK(tb_consume_batch(registry, entries, MOST_ENTRIES, &crossed, &error) == TB_OK);
    tb_threshold_crossed_list_free(&crossed);
    CHECK(total_of(registry, a) == before + MOST_ENTRIES);
    for (size_t index = 0; index <= MOST_ENTRIES; index++) entries[index].thread_id = (tb_text){long_text, 1024};
    CHECK(tb_consume_batch(registry, entries, 129, &crossed, &error) == TB_ARGUMENT_TOO_LARGE);
    CHECK(tb_consume_batch(registry, entries, 128, &crossed, &error) == TB_OK);
    tb_threshold_crossed_list_free(&crossed);

    CHECK(tb_set_thresholds(registry, &(tb_threshold){50, (tb_severity)3}, 1, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_set_thresholds(registry, &(tb_threshold){101, TB_SEVERITY_FINAL}, 1, &error) == TB_INVALID_THRESHOLD);
    CHECK(error.limit == 101);

    tb_text ids[64];
    for (size_t index = 0; index < 64; index++) ids[index] = (tb_text){long_text, 256};
    static tb_thread_state states[64];
    for (size_t index = 0; index < 64; index++)
        states[index] = (tb_thread_state){.thread_id = a, .request_ids = {ids, 64}};
    CHECK(tb_restore(registry, states, 64, &error) == TB_ARGUMENT_TOO_LARGE);
    states[0].request_ids.count = 0;
    CHECK(tb_restore(registry, states, 1, &error) == TB_INVALID_STATE);
    states[0].request_ids = (tb_text_list){NULL, 3};
    CHECK(tb_restore(registry, states, 1, &error) == TB_INVALID_ARGUMENT);
}

static uint64_t held_tokens(tb_registry *registry, tb_text thread_id) {
    uint64_t tokens;
    CHECK(tb_held_tokens(registry, thread_id, &tokens, &error) == TB_OK);
    return tokens;
}

static void hold(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t tokens) {
    tb_held held;
    CHECK(tb_hold(registry, thread_id, request_id, tokens, 0, 0, 0, 0, &held, &error) == TB_OK);
    tb_held_free(&held);
}

static void handles_outlive_their_registry(const tb_component *component) {
    tb_registry *registry = fresh(component, TB_DEFAULT_MEMORY_BYTES);
    tb_thread_budget *budget, *again;
    uint64_t tokens;
    CHECK(tb_get_budget(registry, a, &budget, &error) == TB_OK);
    CHECK(tb_get_budget(registry, a, &again, &error) == TB_OK);
    hold(registry, a, tb_text_of("request"), 40);
    tb_thread_budget_free(again);
    tb_registry_free(registry);
    CHECK(tb_thread_budget_held_tokens(budget, &tokens, &error) == TB_OK && tokens == 40);
    tb_consumed consumed;
    CHECK(tb_thread_budget_consume(budget, 20, 3, NULL, &error) == TB_INVALID_ARGUMENT);
    CHECK(tb_thread_budget_consume(budget, 20, 3, &consumed, &error) == TB_OK);
    CHECK(consumed.usage.total_tokens == 23);
    tb_consumed_free(&consumed);
    tb_consumed_free(&consumed);
    tb_thread_budget_free(budget);
}

/* The three ways in which a hold ends, and what each leaves. */
static void a_hold_ends_as_its_owner_says(tb_registry *registry) {
    tb_text thread_id = tb_text_of("held"), request_id = tb_text_of("request");
    tb_consumed consumed;
    bool was_held;
    hold(registry, thread_id, request_id, 99);
    CHECK(held_tokens(registry, thread_id) == 99);
    CHECK(tb_release(registry, thread_id, request_id, &was_held, &error) == TB_OK && was_held);
    CHECK(tb_release(registry, thread_id, request_id, &was_held, &error) == TB_OK && !was_held);
    CHECK(held_tokens(registry, thread_id) == 0 && total_of(registry, thread_id) == 0);

    hold(registry, thread_id, request_id, 99);
    CHECK(tb_settle(registry, thread_id, request_id, 10, 5, false, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
    CHECK(held_tokens(registry, thread_id) == 0 && total_of(registry, thread_id) == 15);
    CHECK(tb_settle(registry, thread_id, request_id, 10, 5, false, &consumed, &error) == TB_UNKNOWN_HOLD);

    hold(registry, thread_id, request_id, 99);
    CHECK(tb_settle_lost(registry, thread_id, request_id, 10, 0, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
    /* The bill comes after all. */
    CHECK(tb_settle(registry, thread_id, request_id, 10, 7, false, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
    CHECK(held_tokens(registry, thread_id) == 0 && total_of(registry, thread_id) == 32);
}

static void a_refusal_says_what_is_held(const tb_component *component) {
    tb_registry *registry = fresh(component, TB_DEFAULT_MEMORY_BYTES);
    CHECK(tb_configure(registry, 100, &error) == TB_OK);
    consume(registry, a, 50);
    hold(registry, a, tb_text_of("request"), 30);
    CHECK(tb_check_budget(registry, a, 21, &error) == TB_EXHAUSTED);
    CHECK(error.used == 50 && error.held == 30 && error.max_tokens == 100 && error.requested == 21);
    CHECK(error.thread_id_length == 1 && strcmp(error.thread_id, "a") == 0);
    CHECK(strstr(error.message, "50 of 100 tokens are used and 30 are held"));
    tb_registry_free(registry);
}

/* Thread ids of 1,024 bytes, each different. */
static char long_ids[128][TB_MAX_THREAD_ID_BYTES];

/* As many bytes as a batch may have. */
static const tb_usage_entry *largest_batch(void) {
    static tb_usage_entry entries[128];
    for (size_t index = 0; index < 128; index++) {
        memset(long_ids[index], 'a', sizeof long_ids[index]);
        snprintf(long_ids[index], sizeof long_ids[index], "%zu", index);
        entries[index] = (tb_usage_entry){{long_ids[index], sizeof long_ids[index]}, 1, 1};
    }
    return entries;
}

/* The longest lists that a call may have are an argument that an instance takes, whatever it says of them. */
static void largest_arguments_do_not_trap(tb_registry *registry, tb_text thread_id) {
    static tb_threshold thresholds[TB_MAX_ITEM_BYTES / sizeof(tb_threshold)];
    static tb_acknowledgement acknowledgements[TB_MAX_ITEM_BYTES / sizeof(tb_acknowledgement)];
    static tb_text ids[7000];
    static tb_thread_state states[128], many_states[TB_MAX_ITEM_BYTES / sizeof(tb_thread_state)];
    for (size_t index = 0; index < COUNT(ids); index++) ids[index] = (tb_text){"1234567890123456", 16};
    for (size_t index = 0; index < COUNT(states); index++)
        states[index] = (tb_thread_state){.thread_id = {long_ids[index], 1024}, .max_tokens = 1};
    for (size_t index = 0; index < COUNT(many_states); index++)
        many_states[index] = (tb_thread_state){.thread_id = a, .max_tokens = 1};
    static tb_usage_entry entries[TB_MAX_ITEM_BYTES / sizeof(tb_usage_entry)];
    for (size_t index = 0; index < COUNT(entries); index++)
        entries[index].thread_id = (tb_text){long_text, TB_MAX_TEXT_BYTES / COUNT(entries)};
    tb_threshold_crossed_list crossed;
    CHECK(tb_consume_batch(registry, entries, COUNT(entries), &crossed, &error) == TB_BATCH_TOO_LARGE);
    CHECK(tb_set_thresholds(registry, thresholds, COUNT(thresholds), &error) == TB_INVALID_THRESHOLD);
    CHECK(tb_acknowledge_warnings(registry, thread_id, acknowledgements, COUNT(acknowledgements), &error) == TB_OK);
    tb_thread_state state = {.thread_id = a, .max_tokens = 1, .request_ids = {ids, COUNT(ids)}};
    CHECK(tb_restore(registry, &state, 1, &error) == TB_INVALID_STATE);
    CHECK(tb_restore(registry, states, COUNT(states), &error) == TB_OUT_OF_MEMORY);
    CHECK(tb_restore(registry, many_states, COUNT(many_states), &error) == TB_OUT_OF_MEMORY);
}

/* At its memory cap an instance refuses what would need more, and goes on. */
static void the_memory_cap_is_a_refusal(const tb_component *component) {
    tb_registry *registry = fresh(component, 1 << 20);
    tb_code code = TB_OK;
    size_t threads = 0;
    while (code == TB_OK) {
        char id[32];
        snprintf(id, sizeof id, "thread-%zu", threads);
        code = tb_check_budget(registry, tb_text_of(id), 1, &error);
        threads += code == TB_OK;
    }
    CHECK(code == TB_OUT_OF_MEMORY && threads > 100);
    tb_threshold_crossed_list crossed;
    CHECK(tb_consume_batch(registry, largest_batch(), 128, &crossed, &error) == TB_OUT_OF_MEMORY);
    largest_arguments_do_not_trap(registry, tb_text_of("thread-0"));
    CHECK(tb_check_budget(registry, far_too_long, 1, &error) == TB_INVALID_THREAD_ID);
    consume(registry, tb_text_of("thread-0"), 90000);
    CHECK(total_of(registry, tb_text_of("thread-0")) == 90000);
    tb_optional_final_budget final;
    for (size_t index = 0; index < threads; index++) {
        char id[32];
        snprintf(id, sizeof id, "thread-%zu", index);
        CHECK(tb_cleanup_thread(registry, tb_text_of(id), &final, &error) == TB_OK && final.some);
        tb_optional_final_budget_free(&final);
    }
    consume(registry, tb_text_of("new"), 1);
    tb_registry_free(registry);
}

/* With less memory than the header asks for, an argument does not fit. */
static void a_failed_instance_is_lost_alone(const tb_component *component, tb_registry *other) {
    tb_registry *registry = fresh(component, 256 << 10);
    bool exists;
    CHECK(tb_has_budget(registry, a, &exists, &error) == TB_OK);
    tb_threshold_crossed_list crossed;
    CHECK(tb_consume_batch(registry, largest_batch(), 128, &crossed, &error) == TB_TRAPPED);
    CHECK(strstr(error.message, "wasm trap"));
    CHECK(tb_has_budget(registry, a, &exists, &error) == TB_INSTANCE_LOST);
    CHECK(strstr(error.message, "wasm trap"));
    CHECK(tb_configure(registry, 1, &error) == TB_INSTANCE_LOST);
    tb_registry_free(registry);
    CHECK(tb_has_budget(other, a, &exists, &error) == TB_OK);
}

/* A new instance goes on where a snapshot left off. */
static void snapshots_come_back(const tb_component *component) {
    tb_registry *registry = fresh(component, TB_DEFAULT_MEMORY_BYTES);
    consume(registry, a, 80000);
    consume(registry, tb_text_of("b"), 7);
    tb_consumed consumed;
    CHECK(tb_settle(registry, a, tb_text_of("request"), 1, 1, true, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
    hold(registry, tb_text_of("b"), tb_text_of("in flight"), 40);
    tb_thread_state_list states;
    CHECK(tb_snapshot(registry, NULL, 10, &states, &error) == TB_OK && states.count == 2);
    tb_registry_free(registry);

    registry = fresh(component, TB_DEFAULT_MEMORY_BYTES);
    CHECK(tb_restore(registry, states.items, states.count, &error) == TB_OK);
    CHECK(tb_restore(registry, states.items, states.count, &error) == TB_INVALID_STATE);
    tb_thread_state_list_free(&states);
    CHECK(total_of(registry, a) == 80002);
    CHECK(tb_settle(registry, a, tb_text_of("request"), 1, 1, true, &consumed, &error) == TB_OK && consumed.repeated);
    tb_consumed_free(&consumed);
    CHECK(held_tokens(registry, tb_text_of("b")) == 40);
    CHECK(tb_settle(registry, tb_text_of("b"), tb_text_of("in flight"), 1, 1, false, &consumed, &error) == TB_OK);
    tb_consumed_free(&consumed);
    tb_budget_warning_list warnings;
    CHECK(tb_pending_warnings(registry, a, &warnings, &error) == TB_OK && warnings.count == 1);
    tb_acknowledgement acknowledgement = {warnings.items[0].threshold_percent, warnings.items[0].max_tokens};
    tb_budget_warning_list_free(&warnings);
    CHECK(tb_acknowledge_warnings(registry, a, &acknowledgement, 1, &error) == TB_OK);
    CHECK(tb_pending_warnings(registry, a, &warnings, &error) == TB_OK && warnings.count == 0);
    tb_registry_free(registry);
}

static void other_files_are_refused(const char *program) {
    tb_component *component;
    CHECK(tb_component_open("/nowhere", &component, &error) == TB_UNUSABLE_COMPONENT);
    CHECK(strstr(error.message, "No such file"));
    CHECK(tb_component_open("/", &component, &error) == TB_UNUSABLE_COMPONENT);
    CHECK(strstr(error.message, "Is a directory"));
    CHECK(tb_component_open("/dev/null", &component, &error) == TB_UNUSABLE_COMPONENT);
    CHECK(tb_component_open(program, &component, &error) == TB_UNUSABLE_COMPONENT);
    /* The smallest component, and a core module. */
    static const uint8_t empty[] = {0, 'a', 's', 'm', 0x0d, 0, 1, 0}, module[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    CHECK(tb_component_new(empty, sizeof empty, &component, &error) == TB_UNUSABLE_COMPONENT);
    CHECK(strstr(error.message, "does not export configure"));
    CHECK(tb_component_new(module, sizeof module, &component, &error) == TB_UNUSABLE_COMPONENT);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: misuse COMPONENT\n");
        return 2;
    }
    tb_component *component;
    CHECK(tb_component_open(arguments[1], &component, &error) == TB_OK);
    memset(long_text, 'x', sizeof long_text);
    tb_registry *registry = fresh(component, TB_DEFAULT_MEMORY_BYTES);
    null_is_refused(component, registry);
    text_is_utf8(registry);
    sizes_are_bounded(registry);
    a_hold_ends_as_its_owner_says(registry);
    a_refusal_says_what_is_held(component);
    handles_outlive_their_registry(component);
    the_memory_cap_is_a_refusal(component);
    a_failed_instance_is_lost_alone(component, registry);
    snapshots_come_back(component);
    other_files_are_refused(arguments[0]);
    tb_registry_free(registry);
    tb_component_free(component);
    puts("misuse does not hurt");
    return 0;
}
