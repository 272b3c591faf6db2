#include "call.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- errors ---- */

tb_code fail(tb_error *error, tb_code code, const char *format, ...) {
    if (!error) return code;
    error->code = code;
    va_list values;
    va_start(values, format);
    vsnprintf(error->message, sizeof error->message, format, values);
    va_end(values);
    return code;
}

tb_code fail_with(tb_error *error, tb_code code, wasmtime_error_t *failure) {
    wasm_name_t message;
    wasmtime_error_message(failure, &message);
    wasmtime_error_delete(failure);
    fail(error, code, "%.*s", (int)message.size, message.data);
    wasm_byte_vec_delete(&message);
    return code;
}

tb_code fail_argument(tb_error *error, tb_code code) {
    switch (code) {
    case TB_INVALID_UTF8: return fail(error, code, "a text is not UTF-8; nothing was done");
    case TB_INVALID_ARGUMENT:
        return fail(error, code, "a pointer is NULL or an enum has no such value; nothing was done");
    case TB_ARGUMENT_TOO_LARGE:
        return fail(
            error, code,
            "the texts have more than %d bytes, or the lists more than %d; nothing was done, send fewer at a time",
            TB_MAX_TEXT_BYTES, TB_MAX_ITEM_BYTES);
    default: return fail(error, TB_NO_HOST_MEMORY, "no memory left for the arguments; nothing was done");
    }
}

static void set_thread_id(tb_error *error, const char *id, size_t length) {
    if (length > TB_MAX_THREAD_ID_BYTES) length = TB_MAX_THREAD_ID_BYTES;
    memcpy(error->thread_id, id, length);
    error->thread_id[length] = '\0';
    error->thread_id_length = length;
}

static tb_code refuse_exhausted(tb_error *error, const struct type *type, const wasmtime_component_val_t *payload) {
    tb_budget_exhausted exhausted;
    if (!value_lift(type, payload, &exhausted)) return fail(error, TB_EXHAUSTED, "no memory left to say more");
    set_thread_id(error, exhausted.thread_id.data, exhausted.thread_id.length);
    error->used = exhausted.used;
    error->held = exhausted.held;
    error->max_tokens = exhausted.max_tokens;
    error->requested = exhausted.requested;
    value_free(type, &exhausted);
    char also_held[48] = "";
    if (error->held > 0) snprintf(also_held, sizeof also_held, " and %" PRIu64 " are held", error->held);
    return fail(error, TB_EXHAUSTED,
                "thread %s: %" PRIu64 " of %" PRIu64 " tokens are used%s, %" PRIu64 " more do not fit",
                error->thread_id, error->used, error->max_tokens, also_held, error->requested);
}

/* A refusal of the contract. */
static tb_code refuse(tb_error *error, const wasmtime_component_valvariant_t *refusal) {
    tb_code code = (tb_code)(member_index(&registry_error_type, &refusal->discriminant) + 1);
    if (!error) return code;
    const wasmtime_component_val_t *payload = refusal->val;
    if (payload && payload->kind == WASMTIME_COMPONENT_U32) error->limit = payload->of.u32;
    switch (code) {
    case TB_EXHAUSTED: return refuse_exhausted(error, registry_error_type.members[code - 1].type, payload);
    case TB_OUT_OF_MEMORY:
        return fail(error, code, "the instance's memory is used up; clean up a thread or grant more");
    case TB_TOO_MANY_THREADS:
        return fail(error, code, "there are %u threads already, the most there may be; clean one up", error->limit);
    case TB_INVALID_THRESHOLD:
        return fail(error, code, "threshold %u %%: a percent is 1 to 100 and given once", error->limit);
    case TB_TOO_DEEP:
        return fail(error, code, "a line of threads, each the parent of the next, has at most %u", error->limit);
    case TB_TOO_MANY_HOLDS:
        return fail(error, code, "a thread has at most %u holds; settle or release some first", error->limit);
    case TB_BATCH_TOO_LARGE: return fail(error, code, "a batch has at most %u entries; send several", error->limit);
    case TB_UNKNOWN_HOLD: return fail(error, code, "nothing is held for that request, and nothing was counted");
    case TB_UNKNOWN_PARENT:
        set_thread_id(error, payload->of.string.data, payload->of.string.size);
        return fail(error, code, "the parent %s does not exist; open it first", error->thread_id);
    case TB_PARENT_CYCLE:
        set_thread_id(error, payload->of.string.data, payload->of.string.size);
        return fail(error, code, "the parent %s is the thread itself or below it", error->thread_id);
    case TB_OPTIONS_DIFFER:
        set_thread_id(error, payload->of.string.data, payload->of.string.size);
        return fail(error, code, "thread %s exists with another limit or parent; clean it up first", error->thread_id);
    /* Their payload is a text for people. */
    default: return fail(error, code, "%.*s", (int)payload->of.string.size, payload->of.string.data);
    }
}

static tb_code lose(tb_registry *registry, tb_error *error, wasmtime_error_t *failure) {
    tb_error trap;
    fail_with(&trap, TB_TRAPPED, failure);
    registry->lost = true;
    memcpy(registry->reason, trap.message, sizeof registry->reason);
    return fail(error, TB_TRAPPED, "the instance failed and is lost: %s", registry->reason);
}

/* ---- calls ---- */

/* A handle that the caller owns. False when there is no memory for it. */
static bool lift_handle(tb_registry *registry, const wasmtime_component_val_t *value, struct handle **out) {
    struct handle *handle = malloc(sizeof *handle);
    if (!handle) return false;
    *handle = (struct handle){registry, wasmtime_component_resource_any_clone(value->of.resource)};
    registry->users++;
    *out = handle;
    return true;
}

tb_code call(tb_registry *registry, size_t number, const void *const *in, void *out, tb_error *error) {
    const struct signature *signature = &signatures[number];
    const struct type *given = signature->result;
    bool can_fail = given && given->kind == WASMTIME_COMPONENT_VALTYPE_RESULT;
    if (can_fail) given = given->element;
    if (!registry || (given && !out)) return fail_argument(error, TB_INVALID_ARGUMENT);
    if (registry->lost)
        return fail(error, TB_INSTANCE_LOST, "the instance is lost, bring a snapshot back in a new one: %s",
                    registry->reason);

    struct scratch scratch = {NULL, 0, 0};
    wasmtime_component_val_t arguments[MOST_PARAMETERS];
    wasmtime_component_val_t result = {.kind = WASMTIME_COMPONENT_BOOL};
    tb_code code = TB_OK;
    for (size_t index = 0; code == TB_OK && index < signature->parameter_count; index++)
        code = in[index] ? value_lower(signature->parameters[index].type, in[index], &scratch, &arguments[index])
                         : TB_INVALID_ARGUMENT;
    wasmtime_error_t *failure = NULL;
    if (code == TB_OK)
        failure = wasmtime_component_func_call(&registry->functions[number], registry->context, arguments,
                                               signature->parameter_count, &result, signature->result ? 1 : 0);
    scratch_free(&scratch);
    if (code != TB_OK) return fail_argument(error, code);
    if (failure) return lose(registry, error, failure);

    if (error) error->code = TB_OK;
    const wasmtime_component_val_t *value = can_fail ? result.of.result.val : &result;
    if (can_fail && !result.of.result.is_ok)
        code = refuse(error, &value->of.variant);
    else if (given && !(given->kind == WASMTIME_COMPONENT_VALTYPE_OWN ? lift_handle(registry, value, out)
                                                                      : value_lift(given, value, out)))
        code = fail(error, TB_NO_HOST_MEMORY, "no memory left for the result; the call was carried out");
    wasmtime_component_val_delete(&result);
    return code;
}

tb_code call_on(struct handle *handle, size_t number, const void **in, void *out, tb_error *error) {
    if (!handle) return fail_argument(error, TB_INVALID_ARGUMENT);
    in[0] = &handle->resource;
    return call(handle->registry, number, in, out, error);
}

void handle_free(struct handle *handle) {
    if (!handle) return;
    tb_registry *registry = handle->registry;
    if (!registry->lost) {
        wasmtime_error_t *failure = wasmtime_component_resource_any_drop(registry->context, handle->resource);
        if (failure) lose(registry, NULL, failure);
    }
    wasmtime_component_resource_any_delete(handle->resource);
    tb_registry_free(registry);
    free(handle);
}
