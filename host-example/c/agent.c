/* An agent that works within a budget: `agent COMPONENT`. It reserves before every LLM call, records what the call
 * used, reads the warnings, and stops with a summary when it is refused. */
#include "thread_budget.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What an LLM provider bills; here the conversation grows by every answer. */
struct bill {
    uint64_t prompt_tokens, completion_tokens;
};

static struct bill ask_llm(unsigned turn) {
    return (struct bill){.prompt_tokens = 400 + 350 * turn, .completion_tokens = 300 + 10 * turn};
}

static void must(tb_code code, const tb_error *error) {
    if (code == TB_OK) return;
    fprintf(stderr, "%s: %s\n", tb_code_name(code), error->message);
    exit(2);
}

/* One request. False when the budget has no room for it. */
static bool answer(tb_registry *registry, tb_text thread, unsigned turn) {
    tb_error error;
    /* An estimate: what the prompt has and the most that the answer may get. */
    tb_reservation *reservation;
    tb_code code = tb_reserve(registry, thread, 800 + 350 * turn, &reservation, &error);
    if (code == TB_EXHAUSTED) {
        printf("turn %u  refused: %s\n", turn, error.message);
        return false;
    }
    must(code, &error);

    struct bill bill = ask_llm(turn);
    tb_consumed consumed;
    must(tb_reservation_commit(&reservation, bill.prompt_tokens, bill.completion_tokens, &consumed, &error), &error);
    printf("turn %u  used %" PRIu64 " of %" PRIu64 " tokens\n", turn, consumed.usage.total_tokens,
           consumed.usage.max_tokens);
    tb_consumed_free(&consumed);

    /* What the agent adds to its next prompt. */
    tb_budget_warning_list warnings;
    must(tb_take_warnings(registry, thread, &warnings, &error), &error);
    for (size_t index = 0; index < warnings.count; index++)
        printf("        %s\n", warnings.items[index].message.data);
    tb_budget_warning_list_free(&warnings);
    return true;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: agent COMPONENT\n");
        return 2;
    }
    tb_error error;
    tb_component *component;
    must(tb_component_open(arguments[1], &component, &error), &error);
    tb_registry *registry;
    must(tb_registry_new(component, TB_DEFAULT_MEMORY_BYTES, &registry, &error), &error);

    /* A tenant, and a conversation that counts against it as well. */
    tb_text tenant = tb_text_of("acme"), thread = tb_text_of("acme/conversation-1");
    tb_budget *tenant_budget, *budget;
    must(tb_open_thread(registry, tenant, &(tb_thread_options){.max_tokens = {true, 50000}}, &tenant_budget, &error),
         &error);
    must(tb_open_thread(registry, thread,
                        &(tb_thread_options){.max_tokens = {true, 10000}, .parent = {true, tenant}}, &budget, &error),
         &error);

    for (unsigned turn = 1; answer(registry, thread, turn); turn++) {
    }

    double percent;
    must(tb_budget_percent_used(tenant_budget, &percent, &error), &error);
    printf("the tenant has used %.1f %%\n", percent);
    tb_optional_final_budget final;
    must(tb_cleanup_thread(registry, thread, &final, &error), &error);
    printf("the conversation ends with %" PRIu64 " requests and %" PRIu64 " tokens, %.1f %%\n",
           final.value.usage.request_count, final.value.usage.total_tokens, final.value.percent_used);
    tb_optional_final_budget_free(&final);

    tb_budget_free(budget);
    tb_budget_free(tenant_budget);
    tb_registry_free(registry);
    tb_component_free(component);
    return 0;
}
