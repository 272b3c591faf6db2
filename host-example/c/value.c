#include "value.h"
#include <stdlib.h>

struct block {
    struct block *next;
    max_align_t data[];
};

static void *scratch_take(struct scratch *scratch, size_t count, size_t size) {
    if (count > (SIZE_MAX - sizeof(struct block)) / size) return NULL;
    struct block *block = malloc(sizeof(struct block) + count * size);
    if (!block) return NULL;
    block->next = scratch->blocks;
    scratch->blocks = block;
    return block->data;
}

void scratch_free(struct scratch *scratch) {
    while (scratch->blocks) {
        struct block *block = scratch->blocks;
        scratch->blocks = block->next;
        free(block);
    }
}

/* The list types are one by their bytes only. */
static struct list list_at(const void *in) {
    struct list list;
    memcpy(&list, in, sizeof list);
    return list;
}

static bool name_is(const char *name, const char *data, size_t length) {
    return strlen(name) == length && memcmp(name, data, length) == 0;
}

size_t member_index(const struct type *type, const wasm_name_t *name) {
    size_t index = 0;
    while (index < type->count && !name_is(type->members[index].name, name->data, name->size)) index++;
    return index;
}

/* ---- what a type is ---- */

/* `actual` is deleted. */
static bool takes_and_matches(const struct type *type, wasmtime_component_valtype_t *actual) {
    bool matches = type && type_matches(type, actual);
    wasmtime_component_valtype_delete(actual);
    return matches;
}

/* A type that may be missing, on both sides or on none. */
static bool optional_matches(const struct type *type, bool present, wasmtime_component_valtype_t *actual) {
    return present ? takes_and_matches(type, actual) : !type;
}

static bool member_matches(const struct type *type, size_t index, const wasmtime_component_valtype_t *actual) {
    const struct member *member = &type->members[index];
    const char *name;
    size_t length;
    wasmtime_component_valtype_t inner;
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_RECORD:
        return wasmtime_component_record_type_field_nth(actual->of.record, index, &name, &length, &inner) &&
               takes_and_matches(member->type, &inner) && name_is(member->name, name, length);
    case WASMTIME_COMPONENT_VALTYPE_TUPLE:
        return wasmtime_component_tuple_type_types_nth(actual->of.tuple, index, &inner) &&
               takes_and_matches(member->type, &inner);
    case WASMTIME_COMPONENT_VALTYPE_ENUM:
        return wasmtime_component_enum_type_names_nth(actual->of.enum_, index, &name, &length) &&
               name_is(member->name, name, length);
    default: {
        bool has_payload;
        return wasmtime_component_variant_type_case_nth(actual->of.variant, index, &name, &length, &has_payload,
                                                        &inner) &&
               optional_matches(member->type, has_payload, &inner) && name_is(member->name, name, length);
    }
    }
}

static size_t member_count(const wasmtime_component_valtype_t *actual) {
    switch (actual->kind) {
    case WASMTIME_COMPONENT_VALTYPE_RECORD: return wasmtime_component_record_type_field_count(actual->of.record);
    case WASMTIME_COMPONENT_VALTYPE_TUPLE: return wasmtime_component_tuple_type_types_count(actual->of.tuple);
    case WASMTIME_COMPONENT_VALTYPE_ENUM: return wasmtime_component_enum_type_names_count(actual->of.enum_);
    default: return wasmtime_component_variant_type_case_count(actual->of.variant);
    }
}

bool type_matches(const struct type *type, const wasmtime_component_valtype_t *actual) {
    if (type->kind != actual->kind) return false;
    wasmtime_component_valtype_t inner;
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_LIST:
        wasmtime_component_list_type_element(actual->of.list, &inner);
        return takes_and_matches(type->element, &inner);
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        wasmtime_component_option_type_ty(actual->of.option, &inner);
        return takes_and_matches(type->element, &inner);
    case WASMTIME_COMPONENT_VALTYPE_RESULT: {
        bool has_success = wasmtime_component_result_type_ok(actual->of.result, &inner);
        if (!optional_matches(type->element, has_success, &inner)) return false;
        bool has_failure = wasmtime_component_result_type_err(actual->of.result, &inner);
        return optional_matches(type->failure, has_failure, &inner);
    }
    case WASMTIME_COMPONENT_VALTYPE_RECORD:
    case WASMTIME_COMPONENT_VALTYPE_TUPLE:
    case WASMTIME_COMPONENT_VALTYPE_ENUM:
    case WASMTIME_COMPONENT_VALTYPE_VARIANT:
        if (member_count(actual) != type->count) return false;
        for (size_t index = 0; index < type->count; index++)
            if (!member_matches(type, index, actual)) return false;
        return true;
    default:
        return true;
    }
}

/* ---- C to wasmtime ---- */

/* How many bytes the character at `at` takes, 0 when it is none. */
static size_t character_length(const unsigned char *at, size_t left) {
    unsigned char first = at[0];
    if (first < 0x80) return 1;
    size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first < 0xC2 || first > 0xF4 || length > left) return 0;
    for (size_t index = 1; index < length; index++)
        if ((at[index] & 0xC0) != 0x80) return 0;
    /* Not the shortest form, a surrogate, or past U+10FFFF. */
    if ((first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F)) return 0;
    if ((first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F)) return 0;
    return length;
}

static tb_code add_bytes(size_t *sum, size_t bytes, size_t most) {
    if (bytes > most - *sum) return TB_ARGUMENT_TOO_LARGE;
    *sum += bytes;
    return TB_OK;
}

/* Every text that the contract takes is an id, so one that is too long is cut to one that still is: the component
 * judges it, and the size of an argument is bounded. wasmtime aborts the process on text that is not UTF-8. */
static tb_code lower_text(const tb_text *text, struct scratch *scratch, wasm_name_t *name) {
    if (!text->data) return TB_INVALID_ARGUMENT;
    size_t length = 0;
    while (length < text->length && length <= TB_MAX_THREAD_ID_BYTES) {
        size_t step = character_length((const unsigned char *)text->data + length, text->length - length);
        if (step == 0) return TB_INVALID_UTF8;
        length += step;
    }
    *name = (wasm_name_t){length, (char *)text->data};
    return add_bytes(&scratch->text_bytes, length, TB_MAX_TEXT_BYTES);
}

static wasm_name_t name_of(const char *name) {
    return (wasm_name_t){strlen(name), (char *)name};
}

static tb_code lower_list(const struct type *type, const void *in, struct scratch *scratch,
                          wasmtime_component_vallist_t *values) {
    struct list list = list_at(in);
    if (list.count > 0 && !list.items) return TB_INVALID_ARGUMENT;
    if (list.count > TB_MAX_ITEM_BYTES) return TB_ARGUMENT_TOO_LARGE;
    /* An item takes no more there: a pointer has four bytes. */
    tb_code code = add_bytes(&scratch->item_bytes, list.count * type->element->size, TB_MAX_ITEM_BYTES);
    if (code != TB_OK) return code;
    values->size = list.count;
    values->data = scratch_take(scratch, list.count, sizeof *values->data);
    if (!values->data) return TB_NO_HOST_MEMORY;
    const char *item = list.items;
    for (size_t index = 0; index < list.count && code == TB_OK; index++, item += type->element->size)
        code = value_lower(type->element, item, scratch, &values->data[index]);
    return code;
}

static tb_code lower_record(const struct type *type, const void *in, struct scratch *scratch,
                            wasmtime_component_valrecord_t *values) {
    values->size = type->count;
    values->data = scratch_take(scratch, type->count, sizeof *values->data);
    if (!values->data) return TB_NO_HOST_MEMORY;
    tb_code code = TB_OK;
    for (size_t index = 0; index < type->count && code == TB_OK; index++) {
        const struct member *member = &type->members[index];
        values->data[index].name = name_of(member->name);
        code = value_lower(member->type, (const char *)in + member->offset, scratch, &values->data[index].val);
    }
    return code;
}

static tb_code lower_option(const struct type *type, const void *in, struct scratch *scratch,
                            wasmtime_component_val_t **value) {
    *value = NULL;
    if (!*(const bool *)in) return TB_OK;
    *value = scratch_take(scratch, 1, sizeof **value);
    if (!*value) return TB_NO_HOST_MEMORY;
    return value_lower(type->element, (const char *)in + type->offset, scratch, *value);
}

tb_code value_lower(const struct type *type, const void *in, struct scratch *scratch,
                    wasmtime_component_val_t *value) {
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_BOOL:
        value->kind = WASMTIME_COMPONENT_BOOL;
        value->of.boolean = *(const bool *)in;
        return TB_OK;
    case WASMTIME_COMPONENT_VALTYPE_U32:
        value->kind = WASMTIME_COMPONENT_U32;
        value->of.u32 = *(const uint32_t *)in;
        return TB_OK;
    case WASMTIME_COMPONENT_VALTYPE_U64:
        value->kind = WASMTIME_COMPONENT_U64;
        value->of.u64 = *(const uint64_t *)in;
        return TB_OK;
    case WASMTIME_COMPONENT_VALTYPE_F64:
        value->kind = WASMTIME_COMPONENT_F64;
        value->of.f64 = *(const double *)in;
        return TB_OK;
    case WASMTIME_COMPONENT_VALTYPE_STRING:
        value->kind = WASMTIME_COMPONENT_STRING;
        return lower_text(in, scratch, &value->of.string);
    case WASMTIME_COMPONENT_VALTYPE_ENUM: {
        size_t index = *(const unsigned *)in;
        if (index >= type->count) return TB_INVALID_ARGUMENT;
        value->kind = WASMTIME_COMPONENT_ENUM;
        value->of.enumeration = name_of(type->members[index].name);
        return TB_OK;
    }
    case WASMTIME_COMPONENT_VALTYPE_LIST:
        value->kind = WASMTIME_COMPONENT_LIST;
        return lower_list(type, in, scratch, &value->of.list);
    case WASMTIME_COMPONENT_VALTYPE_RECORD:
        value->kind = WASMTIME_COMPONENT_RECORD;
        return lower_record(type, in, scratch, &value->of.record);
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        value->kind = WASMTIME_COMPONENT_OPTION;
        return lower_option(type, in, scratch, &value->of.option);
    default:
        value->kind = WASMTIME_COMPONENT_RESOURCE;
        value->of.resource = *(wasmtime_component_resource_any_t *const *)in;
        return TB_OK;
    }
}

/* ---- wasmtime to C ---- */

static bool lift_text(const wasm_name_t *name, tb_text *text) {
    char *data = malloc(name->size + 1);
    if (!data) return false;
    if (name->size > 0) memcpy(data, name->data, name->size);
    data[name->size] = '\0';
    *text = (tb_text){data, name->size};
    return true;
}

static bool lift_part(const struct type *type, const wasmtime_component_val_t *value, void *out);

static bool lift_list(const struct type *type, const wasmtime_component_vallist_t *values, void *out) {
    if (values->size == 0) return true;
    char *items = calloc(values->size, type->element->size);
    if (!items) return false;
    memcpy(out, &(struct list){items, values->size}, sizeof(struct list));
    for (size_t index = 0; index < values->size; index++)
        if (!lift_part(type->element, &values->data[index], items + index * type->element->size)) return false;
    return true;
}

/* Into zeroed memory, where what was lifted before it failed is left. */
static bool lift_part(const struct type *type, const wasmtime_component_val_t *value, void *out) {
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_BOOL: *(bool *)out = value->of.boolean; return true;
    case WASMTIME_COMPONENT_VALTYPE_U32: *(uint32_t *)out = value->of.u32; return true;
    case WASMTIME_COMPONENT_VALTYPE_U64: *(uint64_t *)out = value->of.u64; return true;
    case WASMTIME_COMPONENT_VALTYPE_F64: *(double *)out = value->of.f64; return true;
    case WASMTIME_COMPONENT_VALTYPE_STRING: return lift_text(&value->of.string, out);
    case WASMTIME_COMPONENT_VALTYPE_ENUM:
        *(unsigned *)out = (unsigned)member_index(type, &value->of.enumeration);
        return true;
    case WASMTIME_COMPONENT_VALTYPE_LIST: return lift_list(type, &value->of.list, out);
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        *(bool *)out = value->of.option != NULL;
        return !value->of.option || lift_part(type->element, value->of.option, (char *)out + type->offset);
    case WASMTIME_COMPONENT_VALTYPE_RECORD:
    case WASMTIME_COMPONENT_VALTYPE_TUPLE:
        for (size_t index = 0; index < type->count; index++) {
            const struct member *member = &type->members[index];
            const wasmtime_component_val_t *part = type->kind == WASMTIME_COMPONENT_VALTYPE_RECORD
                                                       ? &value->of.record.data[index].val
                                                       : &value->of.tuple.data[index];
            if (!lift_part(member->type, part, (char *)out + member->offset)) return false;
        }
        return true;
    default:
        *(wasmtime_component_resource_any_t **)out = wasmtime_component_resource_any_clone(value->of.resource);
        return true;
    }
}

bool value_lift(const struct type *type, const wasmtime_component_val_t *value, void *out) {
    memset(out, 0, type->size);
    if (lift_part(type, value, out)) return true;
    value_free(type, out);
    return false;
}

void value_free(const struct type *type, void *value) {
    if (!value) return;
    switch (type->kind) {
    case WASMTIME_COMPONENT_VALTYPE_STRING:
        free((char *)((tb_text *)value)->data);
        break;
    case WASMTIME_COMPONENT_VALTYPE_LIST: {
        struct list list = list_at(value);
        char *items = (char *)list.items;
        for (size_t index = 0; index < list.count; index++)
            value_free(type->element, items + index * type->element->size);
        free(items);
        break;
    }
    case WASMTIME_COMPONENT_VALTYPE_OPTION:
        value_free(type->element, (char *)value + type->offset);
        break;
    case WASMTIME_COMPONENT_VALTYPE_RECORD:
    case WASMTIME_COMPONENT_VALTYPE_TUPLE:
        for (size_t index = 0; index < type->count; index++)
            value_free(type->members[index].type, (char *)value + type->members[index].offset);
        break;
    default:
        break;
    }
    memset(value, 0, type->size);
}
