#include "thread_budget.h"
#include "contract.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct tb_component {
    wasm_engine_t *engine;
    wasmtime_component_t *component;
    wasmtime_component_linker_t *linker;
    wasmtime_component_export_index_t *exports[FUNCTIONS];
};

struct tb_registry {
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_component_func_t functions[FUNCTIONS];
    /* The registry's owner and its handles. */
    size_t users;
    bool lost;
    /* Why it is, in wasmtime's words. */
    char reason[sizeof((tb_error *)NULL)->message];
};

/* What a `tb_budget` and a `tb_reservation` are. */
struct handle {
    tb_registry *registry;
    wasmtime_component_resource_any_t *resource;
};

/* ---- errors ---- */

const char *tb_code_name(tb_code code) {
    static const char *const others[] = {"invalid-argument", "invalid-utf8",       "trapped",
                                         "instance-lost",    "unusable-component", "no-host-memory"};
    size_t index = code;
    if (index == TB_OK) return "ok";
    if (index <= registry_error_type.count) return registry_error_type.members[index - 1].name;
    index -= registry_error_type.count + 1;
    return index < sizeof others / sizeof others[0] ? others[index] : "unknown";
}

__attribute__((format(printf, 3, 4))) static tb_code fail(tb_error *error, tb_code code, const char *format, ...) {
    if (!error) return code;
    error->code = code;
    va_list values;
    va_start(values, format);
    vsnprintf(error->message, sizeof error->message, format, values);
    va_end(values);
    return code;
}

/* What wasmtime says; its error is deleted. */
static tb_code fail_with(tb_error *error, tb_code code, wasmtime_error_t *failure) {
    wasm_name_t message;
    wasmtime_error_message(failure, &message);
    wasmtime_error_delete(failure);
    fail(error, code, "%.*s", (int)message.size, message.data);
    wasm_byte_vec_delete(&message);
    return code;
}

static tb_code fail_argument(tb_error *error, tb_code code) {
    switch (code) {
    case TB_INVALID_UTF8: return fail(error, code, "a text is not UTF-8; nothing was done");
    case TB_INVALID_ARGUMENT: return fail(error, code, "a pointer is NULL or a severity is none; nothing was done");
    default: return fail(error, TB_NO_HOST_MEMORY, "no memory left for the arguments; nothing was done");
    }
}

static void set_thread_id(tb_error *error, const wasm_name_t *id) {
    size_t length = id->size < TB_MAX_THREAD_ID_BYTES ? id->size : TB_MAX_THREAD_ID_BYTES;
    memcpy(error->thread_id, id->data, length);
    error->thread_id[length] = '\0';
    error->thread_id_length = length;
}

/* A `registry-error` of the contract. */
static tb_code refuse(tb_error *error, const wasmtime_component_valvariant_t *refusal) {
    tb_code code = (tb_code)(member_index(&registry_error_type, &refusal->discriminant) + 1);
    if (!error) return code;
    const wasmtime_component_val_t *payload = refusal->val;
    switch (code) {
    case TB_EXHAUSTED: {
        const wasmtime_component_valrecord_entry_t *fields = payload->of.record.data;
        set_thread_id(error, &fields[0].val.of.string);
        error->used = fields[1].val.of.u64;
        error->max_tokens = fields[2].val.of.u64;
        error->requested = fields[3].val.of.u64;
        return fail(error, code, "thread %s has used %llu of %llu tokens, %llu more do not fit; ask for less or end it",
                    error->thread_id, (unsigned long long)error->used, (unsigned long long)error->max_tokens,
                    (unsigned long long)error->requested);
    }
    case TB_OUT_OF_MEMORY:
        return fail(error, code, "the instance's memory is used up; clean up a thread or grant more");
    case TB_TOO_MANY_THREADS:
        error->limit = payload->of.u32;
        return fail(error, code, "there are %u threads already, the most there may be; clean one up", error->limit);
    case TB_INVALID_THRESHOLD:
        error->limit = payload->of.u32;
        return fail(error, code, "threshold %u %%: a percent is 1 to 100 and given once", error->limit);
    case TB_TOO_DEEP:
        error->limit = payload->of.u32;
        return fail(error, code, "a line of threads, each the parent of the next, has at most %u", error->limit);
    case TB_BATCH_TOO_LARGE:
        error->limit = payload->of.u32;
        return fail(error, code, "a batch has at most %u entries; send several", error->limit);
    case TB_UNKNOWN_PARENT:
        set_thread_id(error, &payload->of.string);
        return fail(error, code, "the parent %s does not exist; open it first", error->thread_id);
    case TB_PARENT_CYCLE:
        set_thread_id(error, &payload->of.string);
        return fail(error, code, "the parent %s is the thread itself or below it", error->thread_id);
    case TB_OPTIONS_DIFFER:
        set_thread_id(error, &payload->of.string);
        return fail(error, code, "thread %s exists with another limit or parent; clean it up first", error->thread_id);
    default:
        return fail(error, code, "%.*s", (int)payload->of.string.size, payload->of.string.data);
    }
}

/* ---- calls ---- */

static tb_code lose(tb_registry *registry, tb_error *error, wasmtime_error_t *failure) {
    tb_error trap;
    fail_with(&trap, TB_TRAPPED, failure);
    registry->lost = true;
    memcpy(registry->reason, trap.message, sizeof registry->reason);
    return fail(error, TB_TRAPPED, "the instance failed and is lost: %s", registry->reason);
}

/* `in` holds a pointer for every parameter, `out` takes what the call gives. */
static tb_code call(tb_registry *registry, enum function function, const void *const *in, void *out, tb_error *error) {
    const struct signature *signature = &signatures[function];
    const struct type *given = signature->result;
    bool can_fail = given && given->kind == WASMTIME_COMPONENT_VALTYPE_RESULT;
    if (can_fail) given = given->element;
    if (!registry || (given && !out)) return fail_argument(error, TB_INVALID_ARGUMENT);
    if (registry->lost)
        return fail(error, TB_INSTANCE_LOST, "the instance is lost, bring a snapshot back in a new one: %s",
                    registry->reason);

    struct scratch scratch = {NULL};
    wasmtime_component_val_t arguments[MOST_PARAMETERS];
    wasmtime_component_val_t result = {.kind = WASMTIME_COMPONENT_BOOL};
    tb_code code = TB_OK;
    size_t count = 0;
    for (; code == TB_OK && count < MOST_PARAMETERS && signature->parameters[count]; count++)
        code = in[count] ? value_lower(signature->parameters[count], in[count], &scratch, &arguments[count])
                         : TB_INVALID_ARGUMENT;
    wasmtime_error_t *failure = NULL;
    if (code == TB_OK)
        failure = wasmtime_component_func_call(&registry->functions[function], registry->context, arguments, count,
                                               &result, signature->result ? 1 : 0);
    scratch_free(&scratch);
    if (code != TB_OK) return fail_argument(error, code);
    if (failure) return lose(registry, error, failure);

    if (error) error->code = TB_OK;
    if (can_fail && !result.of.result.is_ok)
        code = refuse(error, &result.of.result.val->of.variant);
    else if (given && !value_lift(given, can_fail ? result.of.result.val : &result, out))
        code = fail(error, TB_NO_HOST_MEMORY, "no memory left for the result; the call was carried out");
    wasmtime_component_val_delete(&result);
    return code;
}

/* ---- the component ---- */

/* A fresh instance. The types of what it exports are not looked at. */
static tb_code instantiate(const tb_component *component, size_t max_memory_bytes, tb_registry **out,
                           tb_error *error) {
    tb_registry *registry = calloc(1, sizeof *registry);
    if (!registry) return fail(error, TB_NO_HOST_MEMORY, "no memory left for a registry");
    registry->users = 1;
    registry->store = wasmtime_store_new(component->engine, NULL, NULL);
    registry->context = wasmtime_store_context(registry->store);
    /* A negative number is no cap. */
    wasmtime_store_limiter(registry->store, max_memory_bytes > INT64_MAX ? -1 : (int64_t)max_memory_bytes, -1, -1, -1,
                           -1);
    wasmtime_component_instance_t instance;
    wasmtime_error_t *failure = wasmtime_component_linker_instantiate(component->linker, registry->context,
                                                                      component->component, &instance);
    if (failure) {
        tb_registry_free(registry);
        return fail_with(error, TB_UNUSABLE_COMPONENT, failure);
    }
    for (size_t function = 0; function < FUNCTIONS; function++) {
        if (wasmtime_component_instance_get_func(&instance, registry->context, component->exports[function],
                                                 &registry->functions[function]))
            continue;
        tb_registry_free(registry);
        return fail(error, TB_UNUSABLE_COMPONENT, "%s is exported, but is no function", signatures[function].name);
    }
    *out = registry;
    return TB_OK;
}

static bool find_exports(tb_component *component, tb_error *error) {
    for (size_t function = 0; function < FUNCTIONS; function++) {
        const struct signature *signature = &signatures[function];
        wasmtime_component_export_index_t *interface = wasmtime_component_get_export_index(
            component->component, NULL, signature->interface, strlen(signature->interface));
        if (interface)
            component->exports[function] = wasmtime_component_get_export_index(
                component->component, interface, signature->name, strlen(signature->name));
        wasmtime_component_export_index_delete(interface);
        if (component->exports[function]) continue;
        fail(error, TB_UNUSABLE_COMPONENT, "it does not export %s of %s; take one of that version", signature->name,
             signature->interface);
        return false;
    }
    return true;
}

static bool signature_matches(const struct signature *signature, const wasmtime_component_func_type_t *actual) {
    wasmtime_component_valtype_t type;
    const char *name;
    size_t length;
    size_t count = 0;
    for (; count < MOST_PARAMETERS && signature->parameters[count]; count++) {
        if (!wasmtime_component_func_type_param_nth(actual, count, &name, &length, &type)) return false;
        bool matches = type_matches(signature->parameters[count], &type);
        wasmtime_component_valtype_delete(&type);
        if (!matches) return false;
    }
    if (wasmtime_component_func_type_param_count(actual) != count) return false;
    if (!wasmtime_component_func_type_result(actual, &type)) return !signature->result;
    bool matches = signature->result && type_matches(signature->result, &type);
    wasmtime_component_valtype_delete(&type);
    return matches;
}

/* Values are read without looking at their types again, so all types are looked at here, in an instance. */
static tb_code check_types(const tb_component *component, tb_error *error) {
    tb_registry *registry;
    tb_code code = instantiate(component, TB_DEFAULT_MEMORY_BYTES, &registry, error);
    if (code != TB_OK) return code;
    for (size_t function = 0; function < FUNCTIONS && code == TB_OK; function++) {
        wasmtime_component_func_type_t *type =
            wasmtime_component_func_type(&registry->functions[function], registry->context);
        if (!signature_matches(&signatures[function], type))
            code = fail(error, TB_UNUSABLE_COMPONENT, "%s of %s has other types than this host knows",
                        signatures[function].name, signatures[function].interface);
        wasmtime_component_func_type_delete(type);
    }
    tb_registry_free(registry);
    return code;
}

static tb_code prepare(tb_component *component, const uint8_t *bytes, size_t length, tb_error *error) {
    wasm_config_t *config = wasm_config_new();
    /* Calls are made one after the other; support for more costs every one of them. */
    wasmtime_config_concurrency_support_set(config, false);
    /* Compiling takes a moment only, and a pool of threads for it would stay in the process. */
    wasmtime_config_parallel_compilation_set(config, false);
    component->engine = wasm_engine_new_with_config(config);
    if (!component->engine) return fail(error, TB_UNUSABLE_COMPONENT, "wasmtime does not run on this machine");
    component->linker = wasmtime_component_linker_new(component->engine);
    wasmtime_error_t *failure = wasmtime_component_new(component->engine, bytes, length, &component->component);
    if (failure) return fail_with(error, TB_UNUSABLE_COMPONENT, failure);
    return find_exports(component, error) ? check_types(component, error) : TB_UNUSABLE_COMPONENT;
}

tb_code tb_component_new(const uint8_t *bytes, size_t length, tb_component **out, tb_error *error) {
    if (!bytes || !out) return fail_argument(error, TB_INVALID_ARGUMENT);
    tb_component *component = calloc(1, sizeof *component);
    if (!component) return fail(error, TB_NO_HOST_MEMORY, "no memory left for a component");
    tb_code code = prepare(component, bytes, length, error);
    if (code == TB_OK)
        *out = component;
    else
        tb_component_free(component);
    return code;
}

/* What the file holds, to be freed, also when it cannot be read. */
static tb_code read_file(const char *path, uint8_t **bytes, size_t *length, tb_error *error) {
    FILE *file = fopen(path, "rb");
    if (!file) return fail(error, TB_UNUSABLE_COMPONENT, "%s: %s", path, strerror(errno));
    tb_code code = TB_OK;
    size_t capacity = 0;
    do {
        if (*length == capacity) {
            capacity = capacity ? 2 * capacity : 128 << 10;
            uint8_t *grown = realloc(*bytes, capacity);
            if (!grown) {
                code = fail(error, TB_NO_HOST_MEMORY, "no memory left for %s", path);
                break;
            }
            *bytes = grown;
        }
        *length += fread(*bytes + *length, 1, capacity - *length, file);
        if (ferror(file)) code = fail(error, TB_UNUSABLE_COMPONENT, "%s: %s", path, strerror(errno));
    } while (code == TB_OK && !feof(file));
    fclose(file);
    return code;
}

tb_code tb_component_open(const char *path, tb_component **out, tb_error *error) {
    if (!path || !out) return fail_argument(error, TB_INVALID_ARGUMENT);
    uint8_t *bytes = NULL;
    size_t length = 0;
    tb_code code = read_file(path, &bytes, &length, error);
    if (code == TB_OK) code = tb_component_new(bytes, length, out, error);
    free(bytes);
    return code;
}

void tb_component_free(tb_component *component) {
    if (!component) return;
    for (size_t function = 0; function < FUNCTIONS; function++)
        wasmtime_component_export_index_delete(component->exports[function]);
    if (component->component) wasmtime_component_delete(component->component);
    if (component->linker) wasmtime_component_linker_delete(component->linker);
    if (component->engine) wasm_engine_delete(component->engine);
    free(component);
}

/* ---- the registry and its handles ---- */

tb_code tb_registry_new(const tb_component *component, size_t max_memory_bytes, tb_registry **registry,
                        tb_error *error) {
    if (!component || !registry) return fail_argument(error, TB_INVALID_ARGUMENT);
    return instantiate(component, max_memory_bytes, registry, error);
}

void tb_registry_free(tb_registry *registry) {
    if (!registry || --registry->users > 0) return;
    wasmtime_store_delete(registry->store);
    free(registry);
}

/* A call that gives a handle; `out` is where the caller wants it. */
static tb_code call_for_handle(tb_registry *registry, enum function function, const void *const *in, const void *out,
                               struct handle **made, tb_error *error) {
    if (!out) return fail_argument(error, TB_INVALID_ARGUMENT);
    struct handle *handle = malloc(sizeof *handle);
    if (!handle) return fail_argument(error, TB_NO_HOST_MEMORY);
    tb_code code = call(registry, function, in, &handle->resource, error);
    if (code != TB_OK) {
        free(handle);
        return code;
    }
    handle->registry = registry;
    registry->users++;
    *made = handle;
    return TB_OK;
}

/* A call on a handle, which may be NULL. It is the first parameter, and `in` leaves room for it. */
static tb_code call_on(struct handle *handle, enum function function, const void **in, void *out, tb_error *error) {
    if (!handle) return fail_argument(error, TB_INVALID_ARGUMENT);
    in[0] = &handle->resource;
    return call(handle->registry, function, in, out, error);
}

static tb_code call_on_budget(tb_budget *budget, enum function function, const void **in, void *out,
                              tb_error *error) {
    return call_on((struct handle *)budget, function, in, out, error);
}

/* Free this side of a handle. */
static void forget(struct handle *handle) {
    wasmtime_component_resource_any_delete(handle->resource);
    tb_registry_free(handle->registry);
    free(handle);
}

static void drop(struct handle *handle) {
    if (!handle) return;
    tb_registry *registry = handle->registry;
    if (!registry->lost) {
        wasmtime_error_t *failure = wasmtime_component_resource_any_drop(registry->context, handle->resource);
        if (failure) lose(registry, NULL, failure);
    }
    forget(handle);
}

void tb_budget_free(tb_budget *budget) { drop((struct handle *)budget); }
void tb_reservation_free(tb_reservation *reservation) { drop((struct handle *)reservation); }

/* ---- the contract ---- */

tb_code tb_configure(tb_registry *registry, uint64_t max_tokens_per_thread, tb_error *error) {
    const void *in[] = {&max_tokens_per_thread};
    return call(registry, CONFIGURE, in, NULL, error);
}

tb_code tb_max_tokens_per_thread(tb_registry *registry, uint64_t *tokens, tb_error *error) {
    return call(registry, MAX_TOKENS_PER_THREAD, NULL, tokens, error);
}

static tb_code too_many_thresholds(tb_error *error) {
    return fail(error, TB_INVALID_ARGUMENT, "there are at most %d thresholds, one for each percent",
                TB_MAX_THRESHOLDS);
}

tb_code tb_set_thresholds(tb_registry *registry, const tb_threshold *thresholds, size_t count, tb_error *error) {
    if (count > TB_MAX_THRESHOLDS) return too_many_thresholds(error);
    const void *in[] = {&(struct list){thresholds, count}};
    return call(registry, SET_THRESHOLDS, in, NULL, error);
}

tb_code tb_thresholds(tb_registry *registry, tb_threshold_list *thresholds, tb_error *error) {
    return call(registry, THRESHOLDS, NULL, thresholds, error);
}

tb_code tb_set_max_threads(tb_registry *registry, uint32_t max_threads, tb_error *error) {
    const void *in[] = {&max_threads};
    return call(registry, SET_MAX_THREADS, in, NULL, error);
}

tb_code tb_get_budget(tb_registry *registry, tb_text thread_id, tb_budget **budget, tb_error *error) {
    const void *in[] = {&thread_id};
    struct handle *made = NULL;
    tb_code code = call_for_handle(registry, GET_BUDGET, in, budget, &made, error);
    if (code == TB_OK) *budget = (tb_budget *)made;
    return code;
}

tb_code tb_open_thread(tb_registry *registry, tb_text thread_id, const tb_thread_options *options, tb_budget **budget,
                       tb_error *error) {
    static const tb_thread_options none;
    const void *in[] = {&thread_id, options ? options : &none};
    struct handle *made = NULL;
    tb_code code = call_for_handle(registry, OPEN_THREAD, in, budget, &made, error);
    if (code == TB_OK) *budget = (tb_budget *)made;
    return code;
}

tb_code tb_set_limit(tb_registry *registry, tb_text thread_id, uint64_t max_tokens, tb_usage *usage, tb_error *error) {
    const void *in[] = {&thread_id, &max_tokens};
    return call(registry, SET_LIMIT, in, usage, error);
}

tb_code tb_check_budget(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_error *error) {
    const void *in[] = {&thread_id, &estimated_tokens};
    return call(registry, CHECK_BUDGET, in, NULL, error);
}

tb_code tb_reserve(tb_registry *registry, tb_text thread_id, uint64_t estimated_tokens, tb_reservation **reservation,
                   tb_error *error) {
    const void *in[] = {&thread_id, &estimated_tokens};
    struct handle *made = NULL;
    tb_code code = call_for_handle(registry, RESERVE, in, reservation, &made, error);
    if (code == TB_OK) *reservation = (tb_reservation *)made;
    return code;
}

tb_code tb_consume(tb_registry *registry, tb_text thread_id, uint64_t prompt_tokens, uint64_t completion_tokens,
                   tb_consumed *consumed, tb_error *error) {
    const void *in[] = {&thread_id, &prompt_tokens, &completion_tokens};
    return call(registry, CONSUME, in, consumed, error);
}

tb_code tb_consume_once(tb_registry *registry, tb_text thread_id, tb_text request_id, uint64_t prompt_tokens,
                        uint64_t completion_tokens, tb_consumed *consumed, tb_error *error) {
    const void *in[] = {&thread_id, &request_id, &prompt_tokens, &completion_tokens};
    return call(registry, CONSUME_ONCE, in, consumed, error);
}

tb_code tb_consume_batch(tb_registry *registry, const tb_usage_entry *entries, size_t count,
                         tb_threshold_crossed_list *crossed, tb_error *error) {
    bool fits = count <= TB_MAX_BATCH;
    size_t id_bytes = 0;
    for (size_t index = 0; entries && fits && index < count; index++) {
        size_t length = entries[index].thread_id.length;
        /* The component says what is wrong with a single id. */
        id_bytes += length < TB_MAX_THREAD_ID_BYTES ? length : TB_MAX_THREAD_ID_BYTES;
        fits = id_bytes <= TB_MAX_ARGUMENT_BYTES;
    }
    if (!fits) {
        if (error) error->limit = TB_MAX_BATCH;
        return fail(error, TB_BATCH_TOO_LARGE,
                    "a batch has at most %d entries, with %d bytes of thread ids; send several", TB_MAX_BATCH,
                    TB_MAX_ARGUMENT_BYTES);
    }
    const void *in[] = {&(struct list){entries, count}};
    return call(registry, CONSUME_BATCH, in, crossed, error);
}

tb_code tb_take_warnings(tb_registry *registry, tb_text thread_id, tb_budget_warning_list *warnings,
                         tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, TAKE_WARNINGS, in, warnings, error);
}

tb_code tb_has_budget(tb_registry *registry, tb_text thread_id, bool *exists, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, HAS_BUDGET, in, exists, error);
}

tb_code tb_get_usage(tb_registry *registry, tb_text thread_id, tb_optional_usage *usage, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, GET_USAGE, in, usage, error);
}

tb_code tb_get_all_usage(tb_registry *registry, tb_thread_usage_list *usages, tb_error *error) {
    return call(registry, GET_ALL_USAGE, NULL, usages, error);
}

tb_code tb_held_tokens(tb_registry *registry, tb_text thread_id, uint64_t *tokens, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, HELD_TOKENS, in, tokens, error);
}

tb_code tb_reset_thread(tb_registry *registry, tb_text thread_id, tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, RESET_THREAD, in, NULL, error);
}

tb_code tb_cleanup_thread(tb_registry *registry, tb_text thread_id, tb_optional_final_budget *budget,
                          tb_error *error) {
    const void *in[] = {&thread_id};
    return call(registry, CLEANUP_THREAD, in, budget, error);
}

tb_code tb_clear(tb_registry *registry, tb_error *error) { return call(registry, CLEAR, NULL, NULL, error); }

tb_code tb_snapshot(tb_registry *registry, const tb_text *after, uint32_t limit, tb_thread_state_list *states,
                    tb_error *error) {
    tb_optional_text start = {after != NULL, after ? *after : (tb_text){NULL, 0}};
    const void *in[] = {&start, &limit};
    return call(registry, SNAPSHOT, in, states, error);
}

/* About what a state takes as an argument; a list without items has no bytes. */
static size_t state_bytes(const tb_thread_state *state) {
    size_t bytes = 128 + state->thread_id.length + (state->parent.some ? state->parent.value.length : 0);
    bytes += state->triggered_thresholds.count * sizeof(uint32_t);
    bytes += state->undelivered_thresholds.count * sizeof(tb_threshold);
    for (size_t index = 0; state->request_ids.items && index < state->request_ids.count; index++)
        bytes += state->request_ids.items[index].length + 24;
    return bytes;
}

tb_code tb_restore(tb_registry *registry, const tb_thread_state *states, size_t count, tb_error *error) {
    size_t bytes = 0;
    for (size_t index = 0; states && index < count; index++) {
        bytes += state_bytes(&states[index]);
        if (bytes > TB_MAX_ARGUMENT_BYTES)
            return fail(error, TB_INVALID_STATE, "the states take more than %d bytes; restore fewer at a time",
                        TB_MAX_ARGUMENT_BYTES);
    }
    const void *in[] = {&(struct list){states, count}};
    return call(registry, RESTORE, in, NULL, error);
}

tb_code tb_budget_warning_of(tb_registry *registry, const tb_threshold_crossed *crossed, tb_budget_warning *warning,
                             tb_error *error) {
    const void *in[] = {crossed};
    return call(registry, BUDGET_WARNING, in, warning, error);
}

tb_code tb_budget_thread_id(tb_budget *budget, tb_text *thread_id, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_THREAD_ID, in, thread_id, error);
}

tb_code tb_budget_usage(tb_budget *budget, tb_usage *usage, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_USAGE, in, usage, error);
}

tb_code tb_budget_percent_used(tb_budget *budget, double *percent, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_PERCENT_USED, in, percent, error);
}

tb_code tb_budget_is_exhausted(tb_budget *budget, bool *exhausted, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_IS_EXHAUSTED, in, exhausted, error);
}

tb_code tb_budget_held_tokens(tb_budget *budget, uint64_t *tokens, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_HELD_TOKENS, in, tokens, error);
}

tb_code tb_budget_is_detached(tb_budget *budget, bool *detached, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_IS_DETACHED, in, detached, error);
}

tb_code tb_budget_can_consume(tb_budget *budget, uint64_t estimated_tokens, bool *fits, tb_error *error) {
    const void *in[] = {NULL, &estimated_tokens};
    return call_on_budget(budget, BUDGET_CAN_CONSUME, in, fits, error);
}

tb_code tb_budget_consume(tb_budget *budget, uint64_t prompt_tokens, uint64_t completion_tokens, tb_consumed *consumed,
                          tb_error *error) {
    const void *in[] = {NULL, &prompt_tokens, &completion_tokens};
    return call_on_budget(budget, BUDGET_CONSUME, in, consumed, error);
}

tb_code tb_budget_triggered_thresholds(tb_budget *budget, tb_percent_list *percents, tb_error *error) {
    const void *in[] = {NULL};
    return call_on_budget(budget, BUDGET_TRIGGERED_THRESHOLDS, in, percents, error);
}

tb_code tb_budget_check_thresholds(tb_budget *budget, const tb_threshold *thresholds, size_t count,
                                   tb_threshold_crossed_list *crossed, tb_error *error) {
    if (count > TB_MAX_THRESHOLDS) return too_many_thresholds(error);
    const void *in[] = {NULL, &(struct list){thresholds, count}};
    return call_on_budget(budget, BUDGET_CHECK_THRESHOLDS, in, crossed, error);
}

tb_code tb_reservation_tokens(tb_reservation *reservation, uint64_t *tokens, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)reservation, RESERVATION_TOKENS, in, tokens, error);
}

tb_code tb_reservation_charged_thread(tb_reservation *reservation, tb_optional_text *thread_id, tb_error *error) {
    const void *in[] = {NULL};
    return call_on((struct handle *)reservation, RESERVATION_CHARGED_THREAD, in, thread_id, error);
}

tb_code tb_reservation_commit(tb_reservation **reservation, uint64_t prompt_tokens, uint64_t completion_tokens,
                              tb_consumed *consumed, tb_error *error) {
    struct handle *handle = reservation ? (struct handle *)*reservation : NULL;
    const void *in[] = {NULL, &prompt_tokens, &completion_tokens};
    tb_code code = call_on(handle, RESERVATION_COMMIT, in, consumed, error);
    if (code == TB_INVALID_ARGUMENT || code == TB_INSTANCE_LOST) return code;
    forget(handle);
    *reservation = NULL;
    return code;
}

/* ---- freeing ---- */

/* How a result that owns memory is freed. */
#define FREE(name)                                                                                                     \
    void tb_##name##_free(tb_##name *value) {                                                                          \
        if (value) value_free(&name##_type, value);                                                                    \
    }

FREE(text)
FREE(optional_text)
FREE(threshold_list)
FREE(thread_usage_list)
FREE(threshold_crossed_list)
FREE(budget_warning)
FREE(budget_warning_list)
FREE(consumed)
FREE(percent_list)
FREE(optional_final_budget)
FREE(thread_state_list)
