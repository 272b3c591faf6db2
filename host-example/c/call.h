/* Calls of the component, by their number in the tables of contract.c. */
#ifndef CALL_H
#define CALL_H

#include "value.h"

#define MOST_PARAMETERS 8

struct signature {
    /* The exported interface it is in. */
    const char *interface;
    /* As exported: a method's is "[method]RESOURCE.NAME". */
    const char *name;
    /* The first of a method is the handle that it is called on. */
    const struct member *parameters;
    size_t parameter_count;
    /* NULL for none. */
    const struct type *result;
};

/* Its parameters, in contract.c. */
#define TAKES(name) name##_parameters, COUNT(name##_parameters)

extern const struct signature signatures[];
extern const size_t signature_count;
/* Its cases are in the order of `tb_code`, which has TB_OK before them. */
extern const struct type registry_error_type;

struct tb_registry {
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    /* The registry's owner and its handles. */
    size_t users;
    bool lost;
    /* Why it is, in wasmtime's words. */
    char reason[sizeof((tb_error *)NULL)->message];
    /* As many as there are signatures. */
    wasmtime_component_func_t functions[];
};

/* What every type of handle is. */
struct handle {
    tb_registry *registry;
    wasmtime_component_resource_any_t *resource;
};
void handle_free(struct handle *handle);

/* Make a call. `in` holds a pointer for every parameter, `out` takes what the call gives. */
tb_code call(tb_registry *registry, size_t number, const void *const *in, void *out, tb_error *error);

/* Make a call on a handle. It is the first parameter, and `in` leaves room for it. */
tb_code call_on(struct handle *handle, size_t number, const void **in, void *out, tb_error *error);

/* Say why a call was not carried out; `error` may be NULL. */
__attribute__((format(printf, 3, 4))) tb_code fail(tb_error *error, tb_code code, const char *format, ...);

/* The same in wasmtime's words; its error is deleted. */
tb_code fail_with(tb_error *error, tb_code code, wasmtime_error_t *failure);

/* The same for arguments with which a call is not made. */
tb_code fail_argument(tb_error *error, tb_code code);

#endif
