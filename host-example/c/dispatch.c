/* The calls by their number in the tables, for the vectors. Made from wit/ by host-example/generate; do not edit. */
#include "step.h"

tb_code dispatch(size_t number, void *subject, const void *const *in, void *out, tb_error *error) {
    switch (number) {
    case 0: return tb_configure(subject, VALUE_OF(uint64_t, in[0]), error);
    case 1: return tb_max_tokens_per_thread(subject, out, error);
    case 2: return tb_set_thresholds(subject, LIST_OF(in[0]), error);
    case 3: return tb_thresholds(subject, out, error);
    case 4: return tb_set_max_threads(subject, VALUE_OF(uint32_t, in[0]), error);
    case 5: return tb_set_next_birth(subject, VALUE_OF(uint64_t, in[0]), error);
    case 6: return tb_get_budget(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 7: return tb_check_budget(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(uint64_t, in[1]), error);
    case 8: return tb_consume(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(uint64_t, in[1]), VALUE_OF(uint64_t, in[2]),
                              out, error);
    case 9: return tb_consume_batch(subject, LIST_OF(in[0]), out, error);
    case 10: return tb_hold(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(tb_text, in[1]), VALUE_OF(uint64_t, in[2]),
                            VALUE_OF(uint64_t, in[3]), VALUE_OF(uint64_t, in[4]), VALUE_OF(uint64_t, in[5]),
                            VALUE_OF(uint64_t, in[6]), out, error);
    case 11: return tb_settle(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(tb_text, in[1]), VALUE_OF(uint64_t, in[2]),
                              VALUE_OF(uint64_t, in[3]), VALUE_OF(bool, in[4]), out, error);
    case 12: return tb_settle_lost(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(tb_text, in[1]),
                                   VALUE_OF(uint64_t, in[2]), VALUE_OF(uint64_t, in[3]), out, error);
    case 13: return tb_release(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(tb_text, in[1]), out, error);
    case 14: return tb_open_thread(subject, VALUE_OF(tb_text, in[0]), in[1], out, error);
    case 15: return tb_set_limit(subject, VALUE_OF(tb_text, in[0]), VALUE_OF(uint64_t, in[1]), out, error);
    case 16: return tb_pending_warnings(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 17: return tb_acknowledge_warnings(subject, VALUE_OF(tb_text, in[0]), LIST_OF(in[1]), error);
    case 18: return tb_has_budget(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 19: return tb_get_usage(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 20: return tb_get_all_usage(subject, out, error);
    case 21: return tb_held_tokens(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 22: return tb_reset_thread(subject, VALUE_OF(tb_text, in[0]), error);
    case 23: return tb_cleanup_thread(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 24: return tb_clear(subject, error);
    case 25: return tb_snapshot(subject, OPTION_OF(tb_optional_text, in[0]), VALUE_OF(uint32_t, in[1]), out, error);
    case 26: return tb_restore(subject, LIST_OF(in[0]), error);
    case 27: return tb_take_changes(subject, VALUE_OF(uint32_t, in[0]), out, error);
    case 28: return tb_drop_tree(subject, VALUE_OF(tb_text, in[0]), out, error);
    case 29: return tb_thread_budget_thread_id(subject, out, error);
    case 30: return tb_thread_budget_usage(subject, out, error);
    case 31: return tb_thread_budget_percent_used(subject, out, error);
    case 32: return tb_thread_budget_is_exhausted(subject, out, error);
    case 33: return tb_thread_budget_held_tokens(subject, out, error);
    case 34: return tb_thread_budget_is_detached(subject, out, error);
    case 35: return tb_thread_budget_can_consume(subject, VALUE_OF(uint64_t, in[0]), out, error);
    case 36: return tb_thread_budget_consume(subject, VALUE_OF(uint64_t, in[0]), VALUE_OF(uint64_t, in[1]), out, error);
    case 37: return tb_thread_budget_triggered_thresholds(subject, out, error);
    case 38: return tb_thread_budget_check_thresholds(subject, LIST_OF(in[0]), out, error);
    case 39: return tb_budget_warning_of(subject, in[0], out, error);
    default: return TB_INVALID_ARGUMENT;
    }
}
