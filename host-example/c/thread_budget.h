/* A token budget for every LLM agent thread: the component of the world `thread-budget:registry/thread-budget`, in C.
 *
 * What a call means, its units and when it is refused stands in `wit/registry.wit` and `wit/types.wit`. Here is how it
 * is said in C:
 *
 * - Every call returns a `tb_code` and says more in a `tb_error`, which may be NULL and owns nothing. What a call gives
 *   goes through its last pointer before that; when the code is not TB_OK nothing is written there.
 * - What a call gives is the caller's. Each type that owns memory has a `_free` next to it, which also takes a zeroed
 *   or freed value, so that freeing twice does nothing.
 * - What a call takes it only reads, and keeps no pointer to.
 * - A registry and its handles may be used by one thread of the process at a time. A component may be shared.
 */
#ifndef THREAD_BUDGET_H
#define THREAD_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The longest thread id, in bytes of UTF-8. The shortest is one byte. */
#define TB_MAX_THREAD_ID_BYTES 1024
/* The most entries of a batch. */
#define TB_MAX_BATCH 4096
/* The most bytes that the thread ids of a batch, or the states of a restore, may take: what an instance can take even
 * at its memory cap. */
#define TB_MAX_ARGUMENT_BYTES (128 << 10)
/* The most thresholds there can be: one for each percent. */
#define TB_MAX_THRESHOLDS 100
/* A memory cap for `tb_registry_new` that is enough for a million threads. */
#define TB_DEFAULT_MEMORY_BYTES (512u << 20)

typedef enum tb_code {
    TB_OK = 0,

    /* The contract's refusals, its `registry-error`. The registry is as it was. */
    TB_EXHAUSTED,
    TB_INVALID_THREAD_ID,
    TB_TOO_MANY_THREADS,
    TB_INVALID_THRESHOLD,
    TB_OUT_OF_MEMORY,
    TB_UNKNOWN_PARENT,
    TB_PARENT_CYCLE,
    TB_TOO_DEEP,
    TB_OPTIONS_DIFFER,
    TB_INVALID_REQUEST_ID,
    TB_BATCH_TOO_LARGE,
    TB_INVALID_STATE,

    /* The call was not made: a pointer is NULL, a severity is none, or there are more items than can be. */
    TB_INVALID_ARGUMENT,
    /* The call was not made: a text is not UTF-8. */
    TB_INVALID_UTF8,
    /* The call made the instance fail. It is lost: bring a snapshot back in a new registry. */
    TB_TRAPPED,
    /* An earlier call made the instance fail. Only freeing is left. */
    TB_INSTANCE_LOST,
    /* The file cannot be read, or is no component of this contract. */
    TB_UNUSABLE_COMPONENT,
    /* This process has no memory left. The call may have been carried out. */
    TB_NO_HOST_MEMORY,
} tb_code;

/* The name of a code, as the contract has it: "exhausted". Lives for ever. */
const char *tb_code_name(tb_code code);

/* Why a call was not carried out. The fields after `message` are set for the codes they name, and not otherwise. */
typedef struct tb_error {
    tb_code code;
    /* English: what is wrong and what to do. Cut when it is longer. */
    char message[1536];
    /* TB_EXHAUSTED: the thread without room. TB_UNKNOWN_PARENT, TB_PARENT_CYCLE: the parent. TB_OPTIONS_DIFFER: the
     * thread. NUL-terminated; an id may itself contain NUL. */
    char thread_id[TB_MAX_THREAD_ID_BYTES + 1];
    size_t thread_id_length;
    /* TB_EXHAUSTED: tokens used so far, the thread's limit, and the estimate asked for. */
    uint64_t used, max_tokens, requested;
    /* TB_INVALID_THRESHOLD: the percent. TB_TOO_MANY_THREADS, TB_TOO_DEEP, TB_BATCH_TOO_LARGE: the most allowed. */
    uint32_t limit;
} tb_error;

/* UTF-8 of `length` bytes. In what a call gives, `data[length]` is NUL. */
typedef struct tb_text {
    const char *data;
    size_t length;
} tb_text;

/* A NUL-terminated string as a text, borrowed. NULL stays NULL, which calls refuse. */
static inline tb_text tb_text_of(const char *string) {
    return (tb_text){string, string ? strlen(string) : 0};
}
void tb_text_free(tb_text *text);

typedef enum tb_severity { TB_WARNING, TB_CRITICAL, TB_FINAL } tb_severity;

typedef struct tb_threshold {
    uint32_t percent;
    tb_severity severity;
} tb_threshold;

typedef struct tb_threshold_list {
    tb_threshold *items;
    size_t count;
} tb_threshold_list;
void tb_threshold_list_free(tb_threshold_list *thresholds);

typedef struct tb_usage {
    uint64_t prompt_tokens, completion_tokens, total_tokens, remaining, max_tokens, request_count;
} tb_usage;

/* A usage, or none: `value` counts only when `some`. */
typedef struct tb_optional_usage {
    bool some;
    tb_usage value;
} tb_optional_usage;

typedef struct tb_thread_usage {
    tb_text thread_id;
    tb_usage usage;
} tb_thread_usage;

typedef struct tb_thread_usage_list {
    tb_thread_usage *items;
    size_t count;
} tb_thread_usage_list;
void tb_thread_usage_list_free(tb_thread_usage_list *usages);

typedef struct tb_threshold_crossed {
    tb_text thread_id;
    uint32_t threshold_percent;
    tb_severity severity;
    double percent_used;
    uint64_t tokens_used, tokens_remaining, max_tokens;
} tb_threshold_crossed;

typedef struct tb_threshold_crossed_list {
    tb_threshold_crossed *items;
    size_t count;
} tb_threshold_crossed_list;
void tb_threshold_crossed_list_free(tb_threshold_crossed_list *crossed);

typedef struct tb_budget_warning {
    double percent_used;
    uint64_t tokens_used, tokens_remaining, max_tokens;
    tb_severity severity;
    tb_text message;
} tb_budget_warning;
void tb_budget_warning_free(tb_budget_warning *warning);

typedef struct tb_budget_warning_list {
    tb_budget_warning *items;
    size_t count;
} tb_budget_warning_list;
void tb_budget_warning_list_free(tb_budget_warning_list *warnings);

typedef struct tb_consumed {
    tb_usage usage;
    tb_threshold_crossed_list crossed;
    bool repeated;
} tb_consumed;
void tb_consumed_free(tb_consumed *consumed);

typedef struct tb_usage_entry {
    tb_text thread_id;
    uint64_t prompt_tokens, completion_tokens;
} tb_usage_entry;

typedef struct tb_percent_list {
    uint32_t *items;
    size_t count;
} tb_percent_list;
void tb_percent_list_free(tb_percent_list *percents);

typedef struct tb_final_budget {
    tb_usage usage;
    double percent_used;
    tb_percent_list triggered_thresholds;
} tb_final_budget;

typedef struct tb_optional_final_budget {
    bool some;
    tb_final_budget value;
} tb_optional_final_budget;
void tb_optional_final_budget_free(tb_optional_final_budget *budget);

typedef struct tb_optional_tokens {
    bool some;
    uint64_t value;
} tb_optional_tokens;

typedef struct tb_optional_text {
    bool some;
    tb_text value;
} tb_optional_text;
void tb_optional_text_free(tb_optional_text *text);

/* Zeroed: no limit of its own and no parent. */
typedef struct tb_thread_options {
    tb_optional_tokens max_tokens;
    tb_optional_text parent;
} tb_thread_options;

typedef struct tb_text_list {
    tb_text *items;
    size_t count;
} tb_text_list;

typedef struct tb_thread_state {
    tb_text thread_id;
    tb_optional_text parent;
    bool opened;
    uint64_t max_tokens, prompt_tokens, completion_tokens, request_count;
    tb_percent_list triggered_thresholds;
    tb_threshold_list undelivered_thresholds;
    tb_text_list request_ids;
} tb_thread_state;

typedef struct tb_thread_state_list {
    tb_thread_state *items;
    size_t count;
} tb_thread_state_list;
void tb_thread_state_list_free(tb_thread_state_list *states);

/* The component, compiled: make it once and as many registries from it as there are tenants. */
typedef struct tb_component tb_component;

tb_code tb_component_open(const char *path, tb_component **component, tb_error *error);
tb_code tb_component_new(const uint8_t *bytes, size_t length, tb_component **component, tb_error *error);
/* Its registries live on. NULL is nothing. */
void tb_component_free(tb_component *component);

/* One instance of the component. It lives until it and every handle made from it are freed. */
typedef struct tb_registry tb_registry;

/* A fresh registry that may take up to so many bytes of memory; an empty one takes 128 KiB. At the cap, new threads are
 * refused with TB_OUT_OF_MEMORY. Grant 1 MiB or more: with less, an argument may not fit, and the instance fails. */
tb_code tb_registry_new(const tb_component *component, size_t max_memory_bytes, tb_registry **registry,
                        tb_error *error);
void tb_registry_free(tb_registry *registry);

/* A live view of one thread's budget. Free it when it is no longer needed: the instance keeps its budget until then. */
typedef struct tb_budget tb_budget;
void tb_budget_free(tb_budget *budget);

/* Tokens held for a request in flight. Freeing it releases them. */
typedef struct tb_reservation tb_reservation;
void tb_reservation_free(tb_reservation *reservation);

tb_code tb_configure(tb_registry *registry, uint64_t max_tokens_per_thread, tb_error *error);
tb_code tb_max_tokens_per_thread(tb_registry *registry, uint64_t *tokens, tb_error *error);
tb_code tb_set_thresholds(tb_registry *registry, const tb_threshold *thresholds, size_t count, tb_error *error);
tb_code tb_thresholds(tb_registry *registry, tb_threshold_list *thresholds, tb_error *error);
tb_code tb_set_max_threads(tb_registry *registry, uint32_t max_threads, tb_error *error);

tb_code tb_get_budget(tb_registry *registry, tb_text thread_id, tb_budget **budget, tb_error *error);
/* `options` may be NULL, for none. */
tb_code tb_open_thread(tb_registry *registry, tb_text thread_id, const tb_thread_options *options, tb_budget **budget,
                       tb_error *error);
/* Another limit for a thread, which it keeps over a reset; gives its usage under it. Thresholds that are not reached
 * under it fire when they are reached again. */
tb_code tb_set_limit(tb_registry *registry, tb_text thread_id, uint64_t max_tokens, tb_usage *usage, tb_error *error);
tb_code tb_check_budget(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_error *error);
tb_code tb_reserve(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_reservation **reservation,
                   tb_error *error);
tb_code tb_consume(tb_registry *registry, tb_text thread_id, uint64_t prompt_tokens, uint64_t completion_tokens,
                   tb_consumed *consumed, tb_error *error);
tb_code tb_consume_once(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                        uint64_t completion_tokens, tb_consumed *consumed, tb_error *error);
tb_code tb_consume_batch(tb_registry *registry, const tb_usage_entry *entries, size_t count,
                         tb_threshold_crossed_list *crossed, tb_error *error);
tb_code tb_take_warnings(tb_registry *registry, tb_text thread_id, tb_budget_warning_list *warnings, tb_error *error);

tb_code tb_has_budget(tb_registry *registry, tb_text thread_id, bool *exists, tb_error *error);
tb_code tb_get_usage(tb_registry *registry, tb_text thread_id, tb_optional_usage *usage, tb_error *error);
tb_code tb_get_all_usage(tb_registry *registry, tb_thread_usage_list *usages, tb_error *error);
tb_code tb_held_tokens(tb_registry *registry, tb_text thread_id, uint64_t *tokens, tb_error *error);

tb_code tb_reset_thread(tb_registry *registry, tb_text thread_id, tb_error *error);
tb_code tb_cleanup_thread(tb_registry *registry, tb_text thread_id, tb_optional_final_budget *budget,
                          tb_error *error);
tb_code tb_clear(tb_registry *registry, tb_error *error);

/* `after` may be NULL, for the first page. */
tb_code tb_snapshot(tb_registry *registry, const tb_text *after, uint32_t limit, tb_thread_state_list *states,
                    tb_error *error);
tb_code tb_restore(tb_registry *registry, const tb_thread_state *states, size_t count, tb_error *error);

/* What the agent of that thread should read. */
tb_code tb_budget_warning_of(tb_registry *registry, const tb_threshold_crossed *crossed, tb_budget_warning *warning,
                             tb_error *error);

tb_code tb_budget_thread_id(tb_budget *budget, tb_text *thread_id, tb_error *error);
tb_code tb_budget_usage(tb_budget *budget, tb_usage *usage, tb_error *error);
tb_code tb_budget_percent_used(tb_budget *budget, double *percent, tb_error *error);
tb_code tb_budget_is_exhausted(tb_budget *budget, bool *exhausted, tb_error *error);
tb_code tb_budget_held_tokens(tb_budget *budget, uint64_t *tokens, tb_error *error);
tb_code tb_budget_is_detached(tb_budget *budget, bool *detached, tb_error *error);
tb_code tb_budget_can_consume(tb_budget *budget, uint64_t estimated_tokens, bool *fits, tb_error *error);
tb_code tb_budget_consume(tb_budget *budget, uint64_t prompt_tokens, uint64_t completion_tokens, tb_consumed *consumed,
                          tb_error *error);
tb_code tb_budget_triggered_thresholds(tb_budget *budget, tb_percent_list *percents, tb_error *error);
tb_code tb_budget_check_thresholds(tb_budget *budget, const tb_threshold *thresholds, size_t count,
                                   tb_threshold_crossed_list *crossed, tb_error *error);

tb_code tb_reservation_tokens(tb_reservation *reservation, uint64_t *tokens, tb_error *error);
tb_code tb_reservation_charged_thread(tb_reservation *reservation, tb_optional_text *thread_id, tb_error *error);
/* Takes the reservation and sets the pointer to NULL, unless the call was not made. */
tb_code tb_reservation_commit(tb_reservation **reservation, uint64_t prompt_tokens, uint64_t completion_tokens,
                              tb_consumed *consumed, tb_error *error);

#endif
