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

/* How every list looks in C. */
struct list {
    const void *items;
    size_t count;
};

/* Memory that lives for one call. Zeroed at first. */
struct scratch {
    struct block *blocks;
};
void scratch_free(struct scratch *scratch);

/* Whether wasmtime's type is the one described, so that its values can be read without looking twice. */
bool type_matches(const struct type *type, const wasmtime_component_valtype_t *actual);

/* C to wasmtime. The value borrows from `in` and `scratch`: it must not be deleted, only forgotten. */
tb_code value_lower(const struct type *type, const void *in, struct scratch *scratch, wasmtime_component_val_t *value);

/* wasmtime to C. The result owns its memory. False when there is none; `out` then owns nothing. */
bool value_lift(const struct type *type, const wasmtime_component_val_t *value, void *out);

/* Free what a result owns and zero it. */
void value_free(const struct type *type, void *value);

/* The place of a name among the members; `count` when it is none of them. */
size_t member_index(const struct type *type, const wasm_name_t *name);

#endif
