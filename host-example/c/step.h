/* A step of a vector: a call of the contract as JSON, in the words of `tests/vectors/README.md`. */
#ifndef STEP_H
#define STEP_H

#include "call.h"
#include <jansson.h>

#define MOST_HANDLES 16

struct name {
    const char *text;
    tb_thread_budget *budget;
};

/* A vector under way. */
struct run {
    tb_registry *registry;
    struct name handles[MOST_HANDLES];
    size_t handle_count;
    /* What is wrong with the step itself; empty when nothing is. */
    char problem[256];
};

/* Say why this program cannot run, and end it. */
__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *format, ...);

/* Zeroed memory. */
void *allocate(size_t count, size_t size);

/* Note what is wrong with the step, if nothing was before. */
__attribute__((format(printf, 2, 3))) void complain(struct run *run, const char *format, ...);

/* Make the call of the step: {"returns": ...} or {"fails": ...}, or NULL when there is a problem with it. */
json_t *outcome_of(struct run *run, const json_t *step);

/* An argument behind a pointer, as a function takes it. */
#define VALUE_OF(c_type, in) (*(const c_type *)(in))
#define LIST_OF(in) ((const struct list *)(in))->items, ((const struct list *)(in))->count
#define OPTION_OF(c_type, in) (((const c_type *)(in))->some ? &((const c_type *)(in))->value : NULL)

/* Call the public function of that number. `in` has its arguments but for the registry or handle it is called on. */
tb_code dispatch(size_t number, void *subject, const void *const *in, void *out, tb_error *error);

#endif
