/* Values of the component model, described as data and moved between C structs and wasmtime. */
#ifndef VALUE_H
#define VALUE_H

#include "thread_budget.h"
#include <wasmtime.h>

struct member;

/* A type of the contract and the C type that stands for it. */
struct type {
    /* WASMTIME_COMPONENT_VALTYPE_... */
    wasmtime_component_valtype_kind_t kind;
    /* Of the C type, in bytes. */
    size_t size;
    /* Of a list's item, an option's value or a result's success; NULL for a success without value. */
    const struct type *element;
    /* Where the value of an option is in its struct; whether there is one comes first. */
    size_t offset;
    /* A record's fields, a tuple's, an enum's names, or a variant's cases. */
    const struct member *members;
    size_t count;
    /* Of a result's failure. */
    const struct type *failure;
};

struct member {
    /* NULL in a tuple. */
    const char *name;
    /* NULL for a case without payload, or a name. */
    const struct type *type;
    /* Where a field is in its struct. */
    size_t offset;
};

/* What contract.c describes types with. */
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define KIND(name) .kind = WASMTIME_COMPONENT_VALTYPE_##name
#define SIMPLE(name, c_type) {KIND(name), .size = sizeof(c_type)}
/* What a call takes or gives is a pointer to the handle. */
#define HANDLE(name) {KIND(name), .size = sizeof(wasmtime_component_resource_any_t *)}
#define LIST(element_type) {KIND(LIST), .size = sizeof(struct list), .element = &element_type}
#define OPTION(c_type, element_type)                                                                                   \
    {KIND(OPTION), .size = sizeof(c_type), .element = &element_type, .offset = offsetof(c_type, value)}
#define RESULT(success) {KIND(RESULT), .element = success, .failure = &registry_error_type}
/* A record, a tuple, an enum or a variant. */
#define MEMBERS(name, c_type, array) {KIND(name), .size = sizeof(c_type), .members = array, .count = COUNT(array)}

/* How every list looks in C. */
struct list {
    const void *items;
    size_t count;
};

/* What the arguments of one call take. Zeroed at first. */
struct scratch {
    struct block *blocks;
    /* How many bytes the items of their lists have, and their texts, for the instance to copy. */
    size_t item_bytes, text_bytes;
};
void scratch_free(struct scratch *scratch);

/* Whether wasmtime's type is the one described, so that its values can be read without looking twice. */
bool type_matches(const struct type *type, const wasmtime_component_valtype_t *actual);

/* C to wasmtime. The value borrows from `in` and `scratch`: it must not be deleted, only forgotten. The code is TB_OK,
 * or why the call cannot be made. */
tb_code value_lower(const struct type *type, const void *in, struct scratch *scratch, wasmtime_component_val_t *value);

/* wasmtime to C. The result owns its memory. False when there is none; `out` then owns nothing. */
bool value_lift(const struct type *type, const wasmtime_component_val_t *value, void *out);

/* Free what a result owns and zero it. NULL is nothing. */
void value_free(const struct type *type, void *value);

/* The place of a name among the members; `count` when it is none of them. */
size_t member_index(const struct type *type, const wasm_name_t *name);

#endif
