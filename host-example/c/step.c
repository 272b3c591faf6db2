#include "step.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Beyond this a count is written as a decimal string. */
#define LARGEST_PORTABLE (UINT64_C(1) << 53)
#define METHOD "[method]"

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

void complain(struct run *run, const char *format, ...) {
    if (run->problem[0]) return;
    va_list values;
    va_start(values, format);
    vsnprintf(run->problem, sizeof run->problem, format, values);
    va_end(values);
}

/* A name of the contract as vectors write it. */
struct snake {
    char text[64];
};
static struct snake snake(const char *name) {
    struct snake snake;
    snprintf(snake.text, sizeof snake.text, "%s", name);
    for (char *at = snake.text; *at; at++)
        if (*at == '-') *at = '_';
    return snake;
}

/* ---- JSON to C ---- */

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

static tb_text text_of(struct run *run, const json_t *value, const char *name) {
    if (!json_is_string(value)) {
        complain(run, "%s is no text", name);
        return (tb_text){NULL, 0};
    }
    char *data = allocate(json_string_length(value), 1);
    memcpy(data, json_string_value(value), json_string_length(value));
    return (tb_text){data, json_string_length(value)};
}

static void from_json(struct run *run, const struct type *type, const json_t *value, const char *name, void *out);

static struct list list_of(struct run *run, const struct type *type, const json_t *value, const char *name) {
    if (!json_is_array(value)) complain(run, "%s is no list", name);
    char *items = allocate(json_array_size(value), type->element->size);
    for (size_t index = 0; index < json_array_size(value); index++)
        from_json(run, type->element, json_array_get(value, index), name, items + index * type->element->size);
    return (struct list){items, json_array_size(value)};
}

static void record_of(struct run *run, const struct type *type, const json_t *value, const char *name, void *out) {
    if (!json_is_object(value)) complain(run, "%s is no record", name);
    size_t taken = 0;
    for (size_t index = 0; index < type->count; index++) {
        const struct member *member = &type->members[index];
        struct snake key = snake(member->name);
        const json_t *field = json_object_get(value, key.text);
        taken += field != NULL;
        from_json(run, member->type, field, key.text, (char *)out + member->offset);
    }
    if (taken != json_object_size(value)) complain(run, "%s has a field that is not known", name);
}

/* Into zeroed memory; `value_free` frees it. A value that is missing is NULL. */
static void from_json(struct run *run, const struct type *type, const json_t *value, const char *name, void *out) {
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_BOOL:
        if (!json_is_boolean(value)) complain(run, "%s is no boolean", name);
        *(bool *)out = json_is_true(value);
        break;
    case WASMTIME_COMPONENT_VALTYPE_U32: {
        uint64_t count = count_of(run, value, name);
        if (count > UINT32_MAX) complain(run, "%s does not fit 32 bits", name);
        *(uint32_t *)out = (uint32_t)count;
        break;
    }
    case WASMTIME_COMPONENT_VALTYPE_U64: *(uint64_t *)out = count_of(run, value, name); break;
    case WASMTIME_COMPONENT_VALTYPE_F64:
        if (!json_is_number(value)) complain(run, "%s is no number", name);
        *(double *)out = json_number_value(value);
        break;
    case WASMTIME_COMPONENT_VALTYPE_STRING: *(tb_text *)out = text_of(run, value, name); break;
    case WASMTIME_COMPONENT_VALTYPE_ENUM: {
        const char *word = json_is_string(value) ? json_string_value(value) : "";
        size_t index = member_index(type, &(wasm_name_t){strlen(word), (char *)word});
        if (index == type->count) complain(run, "%s has no value \"%s\"", name, word);
        *(unsigned *)out = (unsigned)index;
        break;
    }
    case WASMTIME_COMPONENT_VALTYPE_LIST: {
        struct list list = list_of(run, type, value, name);
        memcpy(out, &list, sizeof list);
        break;
    }
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        *(bool *)out = value && !json_is_null(value);
        if (*(bool *)out) from_json(run, type->element, value, name, (char *)out + type->offset);
        break;
    case WASMTIME_COMPONENT_VALTYPE_RECORD: record_of(run, type, value, name, out); break;
    default: give_up("%s: this runner cannot pass such an argument yet", name);
    }
}

/* ---- C to JSON ---- */

static json_t *count_json(uint64_t count) {
    if (count <= LARGEST_PORTABLE) return json_integer((json_int_t)count);
    return json_sprintf("%" PRIu64, count);
}

static json_t *to_json(const struct type *type, const void *value) {
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_BOOL: return json_boolean(*(const bool *)value);
    case WASMTIME_COMPONENT_VALTYPE_U32: return json_integer(*(const uint32_t *)value);
    case WASMTIME_COMPONENT_VALTYPE_U64: return count_json(*(const uint64_t *)value);
    case WASMTIME_COMPONENT_VALTYPE_F64: return json_real(*(const double *)value);
    case WASMTIME_COMPONENT_VALTYPE_STRING:
        return json_stringn(((const tb_text *)value)->data, ((const tb_text *)value)->length);
    case WASMTIME_COMPONENT_VALTYPE_ENUM: return json_string(type->members[*(const unsigned *)value].name);
    case WASMTIME_COMPONENT_VALTYPE_LIST: {
        struct list list;
        memcpy(&list, value, sizeof list);
        json_t *items = json_array();
        for (size_t index = 0; index < list.count; index++)
            json_array_append_new(items,
                                  to_json(type->element, (const char *)list.items + index * type->element->size));
        return items;
    }
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        return *(const bool *)value ? to_json(type->element, (const char *)value + type->offset) : json_null();
    case WASMTIME_COMPONENT_VALTYPE_RECORD: {
        json_t *fields = json_object();
        for (size_t index = 0; index < type->count; index++) {
            const struct member *member = &type->members[index];
            json_object_set_new(fields, snake(member->name).text,
                                to_json(member->type, (const char *)value + member->offset));
        }
        return fields;
    }
    case WASMTIME_COMPONENT_VALTYPE_TUPLE: {
        json_t *parts = json_array();
        for (size_t index = 0; index < type->count; index++)
            json_array_append_new(
                parts, to_json(type->members[index].type, (const char *)value + type->members[index].offset));
        return parts;
    }
    default: give_up("this runner cannot show such a result yet");
    }
}

/* A refusal of the contract with what vectors compare of it: not the texts for people, of which "invalid-..." have
 * one. */
static json_t *refusal_json(const tb_error *error) {
    const char *name = tb_code_name(error->code);
    const struct type *payload = registry_error_type.members[error->code - 1].type;
    json_t *value = NULL;
    if (error->code == TB_EXHAUSTED)
        value = to_json(payload, &(tb_budget_exhausted){{error->thread_id, error->thread_id_length},
                                                        error->used,
                                                        error->held,
                                                        error->max_tokens,
                                                        error->requested});
    else if (payload && payload->kind == WASMTIME_COMPONENT_VALTYPE_U32)
        value = json_integer(error->limit);
    else if (payload && strncmp(name, "invalid-", 8) != 0)
        value = json_stringn(error->thread_id, error->thread_id_length);
    return value ? json_pack("{s:o}", name, value) : json_string(name);
}

static json_t *failure_json(const tb_error *error) {
    if (error->code > registry_error_type.count)
        return json_sprintf("%s: %s", tb_code_name(error->code), error->message);
    return refusal_json(error);
}

/* ---- a step ---- */

static tb_thread_budget *named_handle(struct run *run, const char *name) {
    for (size_t index = 0; index < run->handle_count; index++)
        if (strcmp(run->handles[index].text, name) == 0) return run->handles[index].budget;
    complain(run, "there is no handle %s", name);
    return NULL;
}

/* Keep a handle; one of that name is replaced. */
static void keep_handle(struct run *run, const char *name, tb_thread_budget *budget) {
    size_t index = 0;
    while (index < run->handle_count && strcmp(run->handles[index].text, name) != 0) index++;
    if (index == MOST_HANDLES) give_up("a vector makes more than %d handles", MOST_HANDLES);
    if (index == run->handle_count) run->handle_count++;
    tb_thread_budget_free(run->handles[index].budget);
    run->handles[index] = (struct name){name, budget};
}

/* The number of the call; none when there is no such call. */
static size_t number_of(const char *call) {
    for (size_t number = 0; number < signature_count; number++) {
        const char *name = signatures[number].name;
        if (strncmp(name, METHOD, strlen(METHOD)) == 0) name += strlen(METHOD);
        if (strcmp(name, call) == 0) return number;
    }
    return signature_count;
}

json_t *outcome_of(struct run *run, const json_t *step) {
    const char *call = json_string_value(json_object_get(step, "call"));
    const char *on = json_string_value(json_object_get(step, "on")),
               *as = json_string_value(json_object_get(step, "as"));
    size_t number = number_of(call ? call : "");
    if (number == signature_count) {
        complain(run, "the call %s is not known", call ? call : "?");
        return NULL;
    }
    const struct signature *signature = &signatures[number];
    const struct type *given = signature->result;
    if (given && given->kind == WASMTIME_COMPONENT_VALTYPE_RESULT) given = given->element;
    size_t first = strncmp(signature->name, METHOD, strlen(METHOD)) == 0;
    bool makes_handle = given && given->kind == WASMTIME_COMPONENT_VALTYPE_OWN;
    if (first != (on != NULL)) complain(run, "\"on\" is the handle that a method is called on");
    if (makes_handle != (as != NULL)) complain(run, "\"as\" names the handle that a call makes");

    void *subject = on ? (void *)named_handle(run, on) : (void *)run->registry;
    void *in[MOST_PARAMETERS];
    size_t taken = 1 + (on != NULL) + (as != NULL);
    for (size_t index = first; index < signature->parameter_count; index++) {
        const struct member *parameter = &signature->parameters[index];
        struct snake name = snake(parameter->name);
        const json_t *value = json_object_get(step, name.text);
        if (value)
            taken++;
        else
            complain(run, "%s is missing", name.text);
        in[index] = allocate(1, parameter->type->size);
        from_json(run, parameter->type, value, name.text, in[index]);
    }
    taken += (json_object_get(step, "returns") != NULL) + (json_object_get(step, "fails") != NULL);
    if (taken != json_object_size(step)) complain(run, "it has a field that is not known");

    json_t *outcome = NULL;
    if (!run->problem[0]) {
        void *out = allocate(1, given ? given->size : 1);
        tb_error error = {.code = TB_OK};
        tb_code code = dispatch(number, subject, (const void *const *)in + first, out, &error);
        if (code != TB_OK)
            outcome = json_pack("{s:o}", "fails", failure_json(&error));
        else if (makes_handle)
            keep_handle(run, as, *(tb_thread_budget **)out);
        if (!outcome)
            outcome = json_pack("{s:o}", "returns", given && !makes_handle ? to_json(given, out) : json_null());
        if (given && !makes_handle) value_free(given, out);
        free(out);
    }
    for (size_t index = first; index < signature->parameter_count; index++) {
        value_free(signature->parameters[index].type, in[index]);
        free(in[index]);
    }
    return outcome;
}
