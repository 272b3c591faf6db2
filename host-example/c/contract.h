/* The codes, types and calls of the contract, in its words. Made from wit/ by host-example/generate; do not edit.
 * Include thread_budget.h: it says how they are used. */
#ifndef CONTRACT_H
#define CONTRACT_H

typedef enum tb_code {
    TB_OK = 0,

    /* Why a call was not carried out. Nothing has changed when one of these is returned, except that an `exhausted`
     * `check-budget` creates its thread, as the class that this replaces does. */

    /* The budget is used up, or the estimate does not fit. Ask for less, or end the thread. */
    TB_EXHAUSTED,
    /* The thread id is empty or longer than 1,024 bytes of UTF-8; the text says so. */
    TB_INVALID_THREAD_ID,
    /* The thread is new and the registry already keeps the given number of threads, the most it may
     * (`set-max-threads`). Clean up a thread first. */
    TB_TOO_MANY_THREADS,
    /* A threshold's percent is outside 1 to 100, or is given twice. */
    TB_INVALID_THRESHOLD,
    /* The memory the host grants this instance is used up. Threads that exist go on working; clean up a thread, or
     * grant more memory. */
    TB_OUT_OF_MEMORY,
    /* The parent asked for, or that of a restored state, does not exist. Open it first. */
    TB_UNKNOWN_PARENT,
    /* The parent asked for is the thread itself or below it. */
    TB_PARENT_CYCLE,
    /* A line of threads, each the parent of the next, has at most this many (16). */
    TB_TOO_DEEP,
    /* The thread exists with another limit or parent than asked for. Clean it up first. */
    TB_OPTIONS_DIFFER,
    /* The request id is empty or longer than 256 bytes of UTF-8; the text says so. */
    TB_INVALID_REQUEST_ID,
    /* A thread has at most this many holds of its own (256). Settle or release some first. */
    TB_TOO_MANY_HOLDS,
    /* Nothing is held for that request, and nothing was counted: it was settled or released before, or its thread
     * and all ancestors of that time are gone. */
    TB_UNKNOWN_HOLD,
    /* A batch has at most this many entries (4,096). Send several. */
    TB_BATCH_TOO_LARGE,
    /* A thread's state that no snapshot can have given, or that does not fit here: the text says which thread and
     * why. */
    TB_INVALID_STATE,

    /* The call was not made: a pointer is NULL, or an enum has no such value. */
    TB_INVALID_ARGUMENT,
    /* The call was not made: a text is not UTF-8. */
    TB_INVALID_UTF8,
    /* The call was not made: its texts have more than TB_MAX_TEXT_BYTES, or its lists more than TB_MAX_ITEM_BYTES. */
    TB_ARGUMENT_TOO_LARGE,
    /* The call made the instance fail. It is lost: bring a snapshot back in a new registry. */
    TB_TRAPPED,
    /* An earlier call made the instance fail. Only freeing is left. */
    TB_INSTANCE_LOST,
    /* The file cannot be read, or is no component of this contract. */
    TB_UNUSABLE_COMPONENT,
    /* This process has no memory left. The call may have been carried out. */
    TB_NO_HOST_MEMORY,
} tb_code;

/* How urgent a crossed threshold is. The agent decides what to do; the usual answers are named. */
typedef enum tb_severity {
    /* Early: plan the rest of the work (75 % by default). */
    TB_SEVERITY_WARNING,
    /* Soon: finish the current step, summarise or escalate (90 % by default). */
    TB_SEVERITY_CRITICAL,
    /* Last chance: save state and answer now, the next request may be refused (95 % by default). */
    TB_SEVERITY_FINAL,
} tb_severity;

/* A share of the limit at which a thread is warned, once under a limit. */
typedef struct tb_threshold {
    /* Whole percent of the thread's limit, 1 to 100. It is reached when `total-tokens * 100 >= percent *
     * max-tokens`, in exact integers. */
    uint32_t percent;
    /* What the warning will be called. */
    tb_severity severity;
} tb_threshold;

typedef struct tb_threshold_list {
    tb_threshold *items;
    size_t count;
} tb_threshold_list;
void tb_threshold_list_free(tb_threshold_list *value);

/* A live view of one thread's budget: it sees what others consume and they see what it consumes. After
 * `reset-thread`, `cleanup-thread` or `clear` it goes on counting on its own, detached from the registry. */
typedef struct tb_thread_budget tb_thread_budget;
void tb_thread_budget_free(tb_thread_budget *value);

/* What one thread has consumed, at the moment of the call. */
typedef struct tb_usage {
    /* Prompt (input) tokens consumed, summed over all requests. */
    uint64_t prompt_tokens;
    /* Completion (output) tokens consumed, summed over all requests. */
    uint64_t completion_tokens;
    /* `prompt-tokens + completion-tokens`. It may pass `max-tokens`: what was used is recorded. */
    uint64_t total_tokens;
    /* Tokens left before the limit; 0 once it is reached or passed. */
    uint64_t remaining;
    /* The thread's limit in tokens: that of its creation, or of the latest `set-limit`. */
    uint64_t max_tokens;
    /* How many times consumption was recorded, zero-token records included. */
    uint64_t request_count;
} tb_usage;

typedef struct tb_optional_severity {
    bool some;
    tb_severity value;
} tb_optional_severity;

typedef struct tb_optional_u64 {
    bool some;
    uint64_t value;
} tb_optional_u64;

/* A threshold that this very call crossed. Each is reported once per thread, and again only when `set-limit` has
 * re-armed it. */
typedef struct tb_threshold_crossed {
    /* The thread whose threshold was crossed. */
    tb_text thread_id;
    /* The threshold, whole percent, 1 to 100. */
    uint32_t threshold_percent;
    /* The severity that goes with the threshold. */
    tb_severity severity;
    /* Percent used after the call, rounded to one decimal, exact ties to even (81.25 is 81.2). It passes 100 when
     * the limit was overshot. */
    double percent_used;
    /* Total tokens used after the call. */
    uint64_t tokens_used;
    /* Tokens left after the call, never below 0. */
    uint64_t tokens_remaining;
    /* The thread's limit in tokens. */
    uint64_t max_tokens;
    /* How many requests like the latest ones still fit, see `budget-warning`. */
    tb_optional_u64 runway;
} tb_threshold_crossed;

typedef struct tb_threshold_crossed_list {
    tb_threshold_crossed *items;
    size_t count;
} tb_threshold_crossed_list;
void tb_threshold_crossed_list_free(tb_threshold_crossed_list *value);

/* What a recorded consumption led to, and where its thread stands. */
typedef struct tb_consumed {
    /* The thread's usage after the call. Where a hold of a thread that is gone was settled, this and what follows is
     * of the ancestor that was charged. */
    tb_usage usage;
    /* What the thread has left beside what is used and held: the least of its own and that of all its ancestors,
     * never below 0. */
    uint64_t room;
    /* The most urgent severity the thread has crossed under its limit, if any. */
    tb_optional_severity severity;
    /* The thresholds this call crossed: the thread's own, ascending by percent, then those of its ancestors, nearest
     * first. Mostly empty. */
    tb_threshold_crossed_list crossed;
    /* Whether `settle` or `settle-lost` knew the request: nothing was counted then. False for other calls. */
    bool repeated;
} tb_consumed;
void tb_consumed_free(tb_consumed *value);

/* The payload an agent reads when its thread crossed a threshold, so that it can still summarise, escalate or save
 * its state. Made by `warnings.budget-warning`, or read from `pending-warnings`. */
typedef struct tb_budget_warning {
    /* The thread whose threshold was crossed. */
    tb_text thread_id;
    /* The threshold, whole percent, 1 to 100. */
    uint32_t threshold_percent;
    /* Percent used, rounded to one decimal. */
    double percent_used;
    /* Total tokens used. */
    uint64_t tokens_used;
    /* Tokens left before the thread is refused. */
    uint64_t tokens_remaining;
    /* The thread's limit in tokens. `acknowledge-warnings` names a warning by its percent and this. */
    uint64_t max_tokens;
    /* How many requests like the latest ones still fit: the thread's room (see `held`) divided by the average tokens
     * of its requests, rounded down. The average is 0 at first, the tokens of the first recorded request after that
     * one, and then `(3 * average + tokens) / 4`, rounded up, after each request of the thread or of one below it.
     * None while the average is 0. */
    tb_optional_u64 runway;
    /* How urgent it is. */
    tb_severity severity;
    /* English, a sentence or three, for the agent: percent used as a whole number (ties to even) and tokens left
     * with thousands separators. It starts with `Note:` (warning), `WARNING:` (critical) or `CRITICAL:` (final). */
    tb_text message;
} tb_budget_warning;
void tb_budget_warning_free(tb_budget_warning *value);

typedef struct tb_budget_warning_list {
    tb_budget_warning *items;
    size_t count;
} tb_budget_warning_list;
void tb_budget_warning_list_free(tb_budget_warning_list *value);

/* What a hold was granted, and where its thread stands. */
typedef struct tb_held {
    /* The completion tokens held: what was asked for, cut down to what is left, never below the least. */
    uint64_t completion_tokens;
    /* The thread's usage, which a hold is no part of. Where the hold has moved to an ancestor, this and what follows
     * is of that. */
    tb_usage usage;
    /* What the thread has left beside what is used and held, this hold included: the least of its own and that of
     * all its ancestors, never below 0. */
    uint64_t room;
    /* The most urgent severity the thread has crossed under its limit, if any. */
    tb_optional_severity severity;
    /* How many requests like the latest ones still fit, see `budget-warning`: of the thread that the hold counts in. */
    tb_optional_u64 runway;
    /* The thread's pending warnings, as `pending-warnings` gives them. */
    tb_budget_warning_list pending;
    /* Whether the thread remembers the request: it was settled, and nothing is held. */
    bool repeated;
} tb_held;
void tb_held_free(tb_held *value);

typedef struct tb_optional_usage {
    bool some;
    tb_usage value;
} tb_optional_usage;

typedef struct tb_text_usage {
    tb_text f0;
    tb_usage f1;
} tb_text_usage;

typedef struct tb_text_usage_list {
    tb_text_usage *items;
    size_t count;
} tb_text_usage_list;
void tb_text_usage_list_free(tb_text_usage_list *value);

typedef struct tb_u32_list {
    uint32_t *items;
    size_t count;
} tb_u32_list;
void tb_u32_list_free(tb_u32_list *value);

/* The last word on a thread that was cleaned up, for logging and billing. */
typedef struct tb_final_budget {
    /* The thread's usage at the end. */
    tb_usage usage;
    /* `total-tokens / max-tokens * 100`, not rounded; 0 when the limit is 0. */
    double percent_used;
    /* Every threshold the thread crossed and `set-limit` did not re-arm, percent, ascending. */
    tb_u32_list triggered_thresholds;
} tb_final_budget;

typedef struct tb_optional_final_budget {
    bool some;
    tb_final_budget value;
} tb_optional_final_budget;
void tb_optional_final_budget_free(tb_optional_final_budget *value);

typedef struct tb_optional_text {
    bool some;
    tb_text value;
} tb_optional_text;

typedef struct tb_text_list {
    tb_text *items;
    size_t count;
} tb_text_list;

/* A hold. */
typedef struct tb_hold_state {
    /* The thread that it was made for, when that is gone and this is the ancestor it moved to. */
    tb_optional_text made_for;
    /* Its request. No two holds of a thread id have the same. */
    tb_text request_id;
    /* Prompt tokens held. */
    uint64_t prompt_tokens;
    /* Completion tokens held. */
    uint64_t completion_tokens;
    /* Completion tokens held before the latest increase, which a stream has surely had: 0 at first, and never more
     * than what is held. */
    uint64_t completion_before;
    /* Who made it, as `hold` was told. */
    uint64_t holder;
    /* Until when its holder answers for it, as `hold` was told. */
    uint64_t deadline;
} tb_hold_state;

typedef struct tb_hold_state_list {
    tb_hold_state *items;
    size_t count;
} tb_hold_state_list;

/* The mark of a request that was charged and may be settled once more: by `settle-lost`, or with `remember` when its
 * thread was gone. */
typedef struct tb_lost_state {
    /* The thread that it was made for, when that is gone and this is the ancestor that was charged. */
    tb_optional_text made_for;
    /* The request. */
    tb_text request_id;
    /* Prompt tokens charged. */
    uint64_t prompt_tokens;
    /* Completion tokens charged. */
    uint64_t completion_tokens;
} tb_lost_state;

typedef struct tb_lost_state_list {
    tb_lost_state *items;
    size_t count;
} tb_lost_state_list;

/* Everything about one thread, for `snapshot` and `restore`. */
typedef struct tb_thread_state {
    /* The thread's id. */
    tb_text thread_id;
    /* Tells it from other threads that had its id before or have it after, see `set-next-birth`. */
    uint64_t birth;
    /* Its parent's id, if it has one. It must exist when the state is restored. */
    tb_optional_text parent;
    /* Whether `open-thread` or `set-limit` gave it a limit or a parent, which it keeps over a reset. A thread with a
     * parent is opened. */
    bool opened;
    /* Its limit, in tokens. */
    uint64_t max_tokens;
    /* Prompt tokens, summed over all requests. */
    uint64_t prompt_tokens;
    /* Completion tokens, summed over all requests. */
    uint64_t completion_tokens;
    /* How many times consumption was recorded. */
    uint64_t request_count;
    /* The average tokens of its requests, see `budget-warning.runway`. */
    uint64_t average_tokens;
    /* The thresholds crossed, with the severity they were crossed with, ascending. Each must be reached by the
     * total. */
    tb_threshold_list triggered_thresholds;
    /* Those of them, percent, ascending, whose warnings are pending. */
    tb_u32_list pending_thresholds;
    /* The request ids that it remembers, oldest first; at most 64, each once. */
    tb_text_list request_ids;
    /* What is held of it, in the order in which it was first held: at most 256 of its own, and 256 that moved to it. */
    tb_hold_state_list holds;
    /* The marks of requests it was charged for, oldest first; at most 64. */
    tb_lost_state_list lost;
} tb_thread_state;

typedef struct tb_thread_state_list {
    tb_thread_state *items;
    size_t count;
} tb_thread_state_list;
void tb_thread_state_list_free(tb_thread_state_list *value);

/* What has changed, see `take-changes`. */
typedef struct tb_changes {
    /* The states of now of threads that have changed or are new, ascending by thread id (byte order). */
    tb_thread_state_list changed;
    /* The ids of threads that were there and are there no longer, ascending; also of some that have come and gone
     * meanwhile. */
    tb_text_list gone;
} tb_changes;
void tb_changes_free(tb_changes *value);

/* One entry of a batch: what one request of a thread used. */
typedef struct tb_usage_entry {
    /* The thread; created when it does not exist. */
    tb_text thread_id;
    /* Prompt tokens. */
    uint64_t prompt_tokens;
    /* Completion tokens. */
    uint64_t completion_tokens;
} tb_usage_entry;

/* What a thread is opened with. */
typedef struct tb_thread_options {
    /* Its own limit, in tokens; the registry's limit of that moment when none is given. */
    tb_optional_u64 max_tokens;
    /* An existing thread that what this one uses and holds counts against as well. */
    tb_optional_text parent;
} tb_thread_options;

/* Names a pending warning that the agent has been given. */
typedef struct tb_acknowledgement {
    /* The warning's threshold, whole percent, 1 to 100. */
    uint32_t threshold_percent;
    /* The limit that the warning named. Where `set-limit` has changed it since, the warning stays pending. */
    uint64_t max_tokens;
} tb_acknowledgement;

/* Why a check refused: the budget is used up, or the estimate does not fit in what is left beside what is held.
 * Where `used` + `requested` would fit, what others hold is the reason, and that may pass. */
typedef struct tb_budget_exhausted {
    /* The thread that has no room: the one that was checked, or its nearest ancestor without room. */
    tb_text thread_id;
    /* Total tokens used so far. */
    uint64_t used;
    /* Tokens held in that thread and below it, the hold that was to be changed apart. */
    uint64_t held;
    /* The thread's limit in tokens. */
    uint64_t max_tokens;
    /* What was asked for, in tokens: the estimate of a check; prompt and least completion of a hold. */
    uint64_t requested;
} tb_budget_exhausted;

/* Set the limit, in tokens, of threads created from now on; threads that exist keep theirs, which `set-limit`
 * changes. 0 makes every new thread exhausted from the start. */
tb_code tb_configure(tb_registry *registry, uint64_t max_tokens_per_thread, tb_error *error);

/* The limit, in tokens, that a new thread gets: 100,000 until `configure` is called. */
tb_code tb_max_tokens_per_thread(tb_registry *registry, uint64_t *out, tb_error *error);

/* Replace the thresholds, for every thread from its next consumption on. A percent that a thread has already crossed
 * does not fire again. The order given does not matter; an empty list turns warnings off. `invalid-threshold` when a
 * percent is outside 1 to 100 or is given twice; the thresholds in force then stay. */
tb_code tb_set_thresholds(tb_registry *registry, const tb_threshold *thresholds, size_t thresholds_count,
                          tb_error *error);

/* The thresholds in force, ascending by percent: 75 `warning`, 90 `critical`, 95 `final` until `set-thresholds` is
 * called. */
tb_code tb_thresholds(tb_registry *registry, tb_threshold_list *out, tb_error *error);

/* Set how many threads may exist; unlimited (2^32-1) until called. Threads beyond a lowered limit stay, only new
 * ones are refused with `too-many-threads`. */
tb_code tb_set_max_threads(tb_registry *registry, uint32_t max_threads, tb_error *error);

/* The number that the next new thread's birth will be; it counts up by one for each. 1 until called, and always
 * above every birth restored. Two hosts that share threads give seeds far apart. */
tb_code tb_set_next_birth(tb_registry *registry, uint64_t birth, tb_error *error);

/* A live handle on a thread's budget; the thread is created when it does not exist. Errors: `invalid-thread-id`,
 * `too-many-threads`, `out-of-memory`. */
tb_code tb_get_budget(tb_registry *registry, tb_text thread_id, tb_thread_budget **out, tb_error *error);

/* Ask, before an LLM call, whether the thread may use `estimated-tokens` more. The thread is created when it does
 * not exist; nothing is recorded.
 *
 * `exhausted` when total + held has reached the limit, or when total + held + estimate would pass it, in the thread
 * or in an ancestor; held is what `hold` keeps for requests in flight. Other errors: `invalid-thread-id`,
 * `too-many-threads`, `out-of-memory`. */
tb_code tb_check_budget(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_error *error);

/* Record, after an LLM call, what it used; the thread is created when it does not exist. An overshoot is recorded
 * too: tokens that were spent are never forgotten. Errors: `invalid-thread-id`, `too-many-threads`, `out-of-memory`. */
tb_code tb_consume(tb_registry *registry, tb_text thread_id, uint64_t prompt_tokens, uint64_t completion_tokens,
                   tb_consumed *out, tb_error *error);

/* Record several, in their order: all of them, or none when an error is returned. The result is what they crossed,
 * in their order. All ids are looked at before anything else is done.
 *
 * `batch-too-large` past 4,096 entries; `out-of-memory` also when the result might not fit. Other errors: as
 * `consume`. Hosts whose instance may be at its memory cap keep the ids of a batch within 128 KiB together: a larger
 * argument may not fit, and that is a trap. */
tb_code tb_consume_batch(tb_registry *registry, const tb_usage_entry *entries, size_t entries_count,
                         tb_threshold_crossed_list *out, tb_error *error);

/* Check as `check-budget` does, and hold the tokens until `settle` or `release`, so that concurrent calls cannot
 * pass the same check together. The thread is created when it does not exist, unless the hold is refused. What does
 * not fit of the completion is cut down, but not below `least-completion-tokens` (a least above the completion is
 * the completion).
 *
 * The same request again sets its hold to the new numbers, holder and deadline. No more than before always fits,
 * prompt and completion together. More is checked with its own old hold apart, and cut down to what is left, but not
 * below what it had; a refusal leaves the old hold as it is. A request that the thread remembers is `repeated`, and
 * nothing is held.
 *
 * `holder` (who) and `deadline` (until when) are the host's, and only handed back by `snapshot`: the component has
 * no clock. A request id is 1 to 256 bytes of UTF-8.
 *
 * `exhausted` when total + held has reached the limit, or when prompt and least completion do not fit, in the thread
 * or in an ancestor. Other errors: `invalid-thread-id`, `invalid-request-id`, `too-many-threads`, `too-many-holds`,
 * and `out-of-memory`, also for a thread that exists. */
tb_code tb_hold(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                uint64_t completion_tokens, uint64_t least_completion_tokens, uint64_t holder, uint64_t deadline,
                tb_held *out, tb_error *error);

/* Replace the request's hold by what was really used, more or less; an overshoot is recorded. Set `remember` where
 * the same usage may be reported twice: the thread then keeps the request id among its latest 64. Where the hold has
 * moved to an ancestor, that keeps a mark, as `settle-lost` leaves.
 *
 * Where there is a mark, only what is more than was charged is added, of prompt and completion each, and that is no
 * further request; the mark goes, but one that is remembered for a thread that is gone stays, with the larger
 * counts.
 *
 * Without hold or mark: `repeated` when the thread remembers the request; counted as `consume` counts, which creates
 * the thread, when `remember` is set; else `unknown-hold`. A reset or cleanup forgets what a thread remembers.
 *
 * Errors: as `consume`, `invalid-request-id`, `unknown-hold`; with `remember` `out-of-memory` also for a thread that
 * exists. A hold that is settled without `remember` never fails. */
tb_code tb_settle(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                  uint64_t completion_tokens, bool remember, tb_consumed *out, tb_error *error);

/* Settle somebody else's hold, whose holder is gone, at what it may have used. It leaves a mark, of which a thread
 * keeps its latest 64, so that a late `settle` of the owner adds what is more. A late `release` changes nothing.
 * Should the owner hold again after all, its hold goes where the mark is; and should it be lost again, what is more
 * than the mark says is added to both.
 *
 * `repeated` when nothing is held and the thread remembers the request or has its mark. Errors: `invalid-thread-id`,
 * `invalid-request-id`, `unknown-hold`. It never fails for a hold that is there. */
tb_code tb_settle_lost(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                       uint64_t completion_tokens, tb_consumed *out, tb_error *error);

/* Let go of the request's hold: nothing was sent. Says whether there was one. */
tb_code tb_release(tb_registry *registry, tb_text thread_id, tb_text request_id, bool *out, tb_error *error);

/* Create a thread with a limit of its own, or below a parent, or both, and return a handle on it. A thread that
 * exists is returned as it is when it has, by now, the limit and the parent asked for; an option that is left out
 * asks for nothing. With neither it is `get-budget`.
 *
 * For every level of its deepest tree, the registry keeps half a MiB of its memory free.
 *
 * Errors: `parent-cycle` when the parent is the thread itself or below it, `unknown-parent`, `too-deep`,
 * `options-differ` when it exists otherwise; and those of `get-budget`. */
tb_code tb_open_thread(tb_registry *registry, tb_text thread_id, const tb_thread_options *options,
                       tb_thread_budget **out, tb_error *error);

/* Give a thread another limit, in tokens, and return its usage under it; the thread is created when it does not
 * exist. What it has used and holds, its request ids, its parent and its children stay, and so do handles on it and
 * its ancestors' limits. From now on it counts as opened, so that a reset leaves it this limit.
 *
 * Below what is used the thread is exhausted. Thresholds that the total does not reach under the new limit are
 * re-armed: they are no longer crossed and their warnings no longer pending, and when they are reached again they
 * fire again. Those that it newly reaches fire with the next consumption. Under a limit of 0 none is reached.
 *
 * Errors: as `get-budget`. */
tb_code tb_set_limit(tb_registry *registry, tb_text thread_id, uint64_t max_tokens, tb_usage *out, tb_error *error);

/* The warnings for thresholds that the thread has crossed and nobody has acknowledged, ascending by percent, with
 * the severity they were crossed with and the numbers of now. Empty when there are none or the thread does not
 * exist. Nothing changes: a warning is pending until the agent has it. */
tb_code tb_pending_warnings(tb_registry *registry, tb_text thread_id, tb_budget_warning_list *out, tb_error *error);

/* The agent has these warnings: they are no longer pending. What names no pending warning under the limit of now is
 * passed over. */
tb_code tb_acknowledge_warnings(tb_registry *registry, tb_text thread_id,
                                const tb_acknowledgement *acknowledgements, size_t acknowledgements_count,
                                tb_error *error);

/* Whether the thread exists. Never creates it. */
tb_code tb_has_budget(tb_registry *registry, tb_text thread_id, bool *out, tb_error *error);

/* The thread's usage, or none when it does not exist. Never creates it. */
tb_code tb_get_usage(tb_registry *registry, tb_text thread_id, tb_optional_usage *out, tb_error *error);

/* Every thread's usage, ascending by thread id (byte order). Empty when the instance's memory cannot hold the
 * answer, which takes about twice what the threads themselves take. */
tb_code tb_get_all_usage(tb_registry *registry, tb_text_usage_list *out, tb_error *error);

/* Tokens held for requests in flight, of the thread and of those below it; 0 when it does not exist. Never creates
 * it. */
tb_code tb_held_tokens(tb_registry *registry, tb_text thread_id, uint64_t *out, tb_error *error);

/* Forget the thread: its next use starts from zero, with the limit in force then. Handles on the old budget go on,
 * detached; its holds move to its nearest ancestor. Nothing happens when the thread does not exist.
 *
 * An opened thread starts from zero in its place instead, with its own limit, its parent and its children; so does a
 * parent that was not opened, with the limit in force. Its ancestors keep what it used, its children what they used.
 * Should there be no memory for that, the old budget itself starts over, and handles on it stay attached. */
tb_code tb_reset_thread(tb_registry *registry, tb_text thread_id, tb_error *error);

/* Forget the thread, and every thread below it, and return its final budget, for logging or billing; none when it
 * does not exist, so a second call returns none. Its ancestors keep what was used, and take over what is still held. */
tb_code tb_cleanup_thread(tb_registry *registry, tb_text thread_id, tb_optional_final_budget *out, tb_error *error);

/* Forget every thread, and all that is held. The limit, the thresholds and the thread limit stay. */
tb_code tb_clear(tb_registry *registry, tb_error *error);

/* The states of up to `limit` threads, those after the thread `after`, or the first ones. Parents come before their
 * children; the order is otherwise the registry's own. A page may be shorter than asked for (4,096 threads at most,
 * fewer when memory is short); an empty one is the end. Pages agree with each other when nothing is changed between
 * them.
 *
 * Settings (limit, thresholds, thread limit) are the host's to keep. */
tb_code tb_snapshot(tb_registry *registry, const tb_text *after, uint32_t limit, tb_thread_state_list *out,
                    tb_error *error);

/* Bring threads back, all of them, or none when an error is returned. Restore pages in the order they were taken. A
 * parent must exist or come earlier in the list; no thread may exist already.
 *
 * `invalid-state` when a state contradicts itself or its thread exists. Other errors: those of `open-thread`. As for
 * `consume-batch`, a page that the memory left cannot hold is a trap. */
tb_code tb_restore(tb_registry *registry, const tb_thread_state *states, size_t states_count, tb_error *error);

/* What has changed since this was called last, for a host that keeps the threads in a store too: after each call it
 * writes what that has changed. The first call answers with nothing, and only from then on is anything noted: all
 * that changes threads, but for what `restore` and `drop-tree` do. A thread that was touched and is as it was may be
 * among them. Settings are the host's to keep.
 *
 * At most `limit` threads (and 4,096), fewer when memory is short, those that are gone last; an answer without any
 * is the end. `out-of-memory` when there was no room to note everything: what was noted is forgotten, and the host
 * had better bring the threads back from where it keeps them. */
tb_code tb_take_changes(tb_registry *registry, uint32_t limit, tb_changes *out, tb_error *error);

/* Take a thread, and all of the tree that it is in, out of the registry, with what is held and marked: they are kept
 * elsewhere, and `restore` brings them back. Handles on them go on counting, detached, and what of them was noted
 * for `take-changes` is forgotten. Says whether there was such a thread. */
tb_code tb_drop_tree(tb_registry *registry, tb_text thread_id, bool *out, tb_error *error);

/* The thread this budget was created for. */
tb_code tb_thread_budget_thread_id(tb_thread_budget *thread_budget, tb_text *out, tb_error *error);

/* The usage of now. */
tb_code tb_thread_budget_usage(tb_thread_budget *thread_budget, tb_usage *out, tb_error *error);

/* `total-tokens / max-tokens * 100`, not rounded; 0 when the limit is 0. Passes 100 on overshoot. */
tb_code tb_thread_budget_percent_used(tb_thread_budget *thread_budget, double *out, tb_error *error);

/* Whether the total has reached the limit. A limit of 0 is exhausted from the start. */
tb_code tb_thread_budget_is_exhausted(tb_thread_budget *thread_budget, bool *out, tb_error *error);

/* Tokens held for requests in flight, of this thread and of those below it. */
tb_code tb_thread_budget_held_tokens(tb_thread_budget *thread_budget, uint64_t *out, tb_error *error);

/* Whether the registry no longer counts this budget, after a reset, cleanup or clear. */
tb_code tb_thread_budget_is_detached(tb_thread_budget *thread_budget, bool *out, tb_error *error);

/* Whether total + held + estimate stays within the limit, here and in every ancestor. Unlike `check-budget` it says
 * yes to an estimate of 0 at exactly the limit. */
tb_code tb_thread_budget_can_consume(tb_thread_budget *thread_budget, uint64_t estimated_tokens, bool *out,
                                     tb_error *error);

/* Record what an LLM call used and report the registry's thresholds that it crossed. */
tb_code tb_thread_budget_consume(tb_thread_budget *thread_budget, uint64_t prompt_tokens, uint64_t completion_tokens,
                                 tb_consumed *out, tb_error *error);

/* The thresholds this budget has crossed so far, percent, ascending. */
tb_code tb_thread_budget_triggered_thresholds(tb_thread_budget *thread_budget, tb_u32_list *out, tb_error *error);

/* Report which of these thresholds are reached and have not been reported before, ascending by percent, and mark
 * them as reported. Of two with the same percent the last counts; one outside 1 to 100 is never reached. */
tb_code tb_thread_budget_check_thresholds(tb_thread_budget *thread_budget,
                                          const tb_threshold *thresholds, size_t thresholds_count,
                                          tb_threshold_crossed_list *out, tb_error *error);

/* Turn a crossed threshold into the `budget-warning` for the agent of that thread. Pure: it reads its argument only,
 * and every argument has an answer. */
tb_code tb_budget_warning_of(tb_registry *registry, const tb_threshold_crossed *crossed, tb_budget_warning *out,
                             tb_error *error);

#endif
