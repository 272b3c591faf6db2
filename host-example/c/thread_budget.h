/* A token budget for every LLM agent thread: the component of the world `thread-budget:registry/thread-budget`, in C.
 *
 * contract.h has every call of the contract, with what it means and when it is refused, and every type. Here is how
 * they are used:
 *
 * - Every call returns a `tb_code` and says more in a `tb_error`, which may be NULL and owns nothing. What a call gives
 *   goes to `out`; when the code is not TB_OK nothing is written there.
 * - What a call gives is the caller's. Each type that owns memory has a `_free` next to it, which also takes NULL and
 *   a zeroed or freed value, so that freeing a value twice does nothing. A handle is freed once.
 * - What a call takes it only reads, and keeps no pointer to. Of an optional argument NULL is none.
 * - A registry and its handles may be used by one thread of the process at a time. A component may be shared.
 *
 * A hold is data and nothing releases it by itself: whoever made it ends it, on every way out. How depends on whether
 * its request was sent:
 *
 * - it was not: `tb_release`;
 * - it was, and the provider answered with what it bills: `tb_settle`;
 * - it was, and there is no definite answer (a time-out, a lost connection): `tb_settle_lost`, with the prompt and,
 *   when the hold has grown on the way, all of the completion that was held before it grew last. The provider may have
 *   billed that. Should its bill come after all, `tb_settle` adds what is more. Where it is known that nothing was
 *   billed, as after an answer of status 429: `tb_release`.
 */
#ifndef THREAD_BUDGET_H
#define THREAD_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The longest thread id, in bytes of UTF-8. The shortest is one byte. */
#define TB_MAX_THREAD_ID_BYTES 1024
/* The most bytes that the texts of a call may have together, and the items of its lists, as C has them: what an
 * instance takes even at its memory cap, and enough for a batch of 4,096 entries. */
#define TB_MAX_TEXT_BYTES (128 << 10)
#define TB_MAX_ITEM_BYTES (160 << 10)
/* A memory cap for `tb_registry_new` that is enough for a million threads. */
#define TB_DEFAULT_MEMORY_BYTES (512u << 20)

/* UTF-8 of `length` bytes. In what a call gives, `data[length]` is NUL. */
typedef struct tb_text {
    const char *data;
    size_t length;
} tb_text;

/* A NUL-terminated string as a text, borrowed. NULL stays NULL, which calls refuse. */
static inline tb_text tb_text_of(const char *string) {
    return (tb_text){string, string ? strlen(string) : 0};
}
void tb_text_free(tb_text *text);

/* One instance of the component. It lives until it and every handle made from it are freed. */
typedef struct tb_registry tb_registry;

typedef struct tb_error tb_error;

#include "contract.h"

/* The name of a code, as the contract has it: "exhausted". Lives for ever. */
const char *tb_code_name(tb_code code);

/* Why a call was not carried out. The fields after `message` are set for the codes they name, and not otherwise. */
struct tb_error {
    tb_code code;
    /* English: what is wrong and what to do. Cut when it is longer. */
    char message[1536];
    /* TB_EXHAUSTED: the thread without room. TB_UNKNOWN_PARENT, TB_PARENT_CYCLE: the parent. TB_OPTIONS_DIFFER: the
     * thread. NUL-terminated; an id may itself contain NUL. */
    char thread_id[TB_MAX_THREAD_ID_BYTES + 1];
    size_t thread_id_length;
    /* TB_EXHAUSTED, as `tb_budget_exhausted` has them. Where `used` and `requested` together are within `max_tokens`,
     * what others hold is the reason, and that may pass. */
    uint64_t used, held, max_tokens, requested;
    /* TB_INVALID_THRESHOLD: the percent. TB_TOO_MANY_THREADS, TB_TOO_DEEP, TB_TOO_MANY_HOLDS, TB_BATCH_TOO_LARGE: the
     * most allowed. */
    uint32_t limit;
};

/* The component, compiled: make it once and as many registries from it as there are tenants. */
typedef struct tb_component tb_component;

tb_code tb_component_open(const char *path, tb_component **component, tb_error *error);
tb_code tb_component_new(const uint8_t *bytes, size_t length, tb_component **component, tb_error *error);
/* Its registries live on. NULL is nothing. */
void tb_component_free(tb_component *component);

/* A fresh registry that may take up to so many bytes of memory; an empty one takes 128 KiB. At the cap, new threads are
 * refused with TB_OUT_OF_MEMORY. Grant 1 MiB or more: with less, an argument may not fit, and the instance fails. */
tb_code tb_registry_new(const tb_component *component, size_t max_memory_bytes, tb_registry **registry,
                        tb_error *error);
void tb_registry_free(tb_registry *registry);

#endif
