/* A step of a vector: a call of the contract as JSON, in the words of `tests/vectors/README.md`. */
#ifndef STEP_H
#define STEP_H

#include "thread_budget.h"
#include <jansson.h>

#define MOST_HANDLES 16

struct name {
    const char *text;
    /* One of both. */
    tb_budget *budget;
    tb_reservation *reservation;
};

/* A vector under way. */
struct run {
    tb_registry *registry;
    struct name handles[MOST_HANDLES];
    size_t handle_count;
    /* The step, and how many of its fields were asked for. */
    const json_t *step;
    size_t taken;
    /* What is wrong with the step itself; empty when nothing is. */
    char problem[256];
};

/* Say why this program cannot run, and end it. */
__attribute__((noreturn, format(printf, 1, 2))) void give_up(const char *format, ...);

/* Zeroed memory. */
void *allocate(size_t count, size_t size);

/* Note what is wrong with the step, if nothing was before. */
__attribute__((format(printf, 2, 3))) void complain(struct run *run, const char *format, ...);

/* Make the call of the step. Its result goes to `returns` when it is TB_OK, otherwise what it is goes to `error`. */
tb_code make_call(struct run *run, json_t **returns, tb_error *error);

/* What came of a call, as `fails` has it. */
json_t *failure_json(const tb_error *error);

#endif
