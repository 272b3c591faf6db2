/* An agent that works within a budget: `agent COMPONENT`. It holds what a request may use before it sends it, settles
 * what it used, reads the warnings, and stops when it is refused. */
#include "thread_budget.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What an LLM provider bills; here the conversation grows by every answer. */
struct bill {
    uint64_t prompt_tokens, completion_tokens;
};

static uint64_t prompt_of(unsigned turn) { return 400 + 150 * turn; }

/* Send the request. False when no answer comes, of which the third is an example. */
static bool ask_llm(unsigned turn, uint64_t most_completion_tokens, struct bill *bill) {
    uint64_t completion_tokens = 300 + 10 * turn;
    bill->prompt_tokens = prompt_of(turn);
    bill->completion_tokens = completion_tokens < most_completion_tokens ? completion_tokens : most_completion_tokens;
    return turn != 3;
}

static void must(tb_code code, const tb_error *error) {
    if (code == TB_OK) return;
    fprintf(stderr, "%s: %s\n", tb_code_name(code), error->message);
    exit(2);
}

/* The agent has read them. */
static void acknowledge(tb_registry *registry, tb_text thread, const tb_budget_warning_list *warnings) {
    tb_error error;
    for (size_t index = 0; index < warnings->count; index++) {
        const tb_budget_warning *warning = &warnings->items[index];
        tb_acknowledgement acknowledgement = {warning->threshold_percent, warning->max_tokens};
        must(tb_acknowledge_warnings(registry, thread, &acknowledgement, 1, &error), &error);
    }
}

/* One request. False when the budget has no room for it. */
static bool answer(tb_registry *registry, tb_text thread, unsigned turn) {
    tb_error error;
    char id[16];
    snprintf(id, sizeof id, "turn-%u", turn);
    tb_text request = tb_text_of(id);
    /* The prompt, and for the answer 500 tokens or what is left, but 100 at the least. This process is the only one
     * that makes holds, so it needs neither a holder nor a deadline. */
    tb_held held;
    tb_code code = tb_hold(registry, thread, request, prompt_of(turn), 500, 100, 0, 0, &held, &error);
    if (code == TB_EXHAUSTED) {
        printf("turn %u  refused: %s\n", turn, error.message);
        return false;
    }
    must(code, &error);
    /* What the agent adds to this prompt. */
    for (size_t index = 0; index < held.pending.count; index++)
        printf("        %s\n", held.pending.items[index].message.data);

    struct bill bill;
    tb_consumed consumed;
    if (ask_llm(turn, held.completion_tokens, &bill)) {
        must(tb_settle(registry, thread, request, bill.prompt_tokens, bill.completion_tokens, false, &consumed, &error),
             &error);
        acknowledge(registry, thread, &held.pending);
        printf("turn %u  used %" PRIu64 " of %" PRIu64 " tokens\n", turn, consumed.usage.total_tokens,
               consumed.usage.max_tokens);
    } else {
        /* It was sent, so the prompt at least may be billed. */
        must(tb_settle_lost(registry, thread, request, prompt_of(turn), 0, &consumed, &error), &error);
        printf("turn %u  no answer, its prompt is counted\n", turn);
    }
    tb_consumed_free(&consumed);
    tb_held_free(&held);
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
    tb_thread_budget *tenant_budget, *budget;
    must(tb_open_thread(registry, tenant, &(tb_thread_options){.max_tokens = {true, 50000}}, &tenant_budget, &error),
         &error);
    must(tb_open_thread(registry, thread,
                        &(tb_thread_options){.max_tokens = {true, 12000}, .parent = {true, tenant}}, &budget, &error),
         &error);

    for (unsigned turn = 1; answer(registry, thread, turn); turn++) {
    }

    double percent;
    must(tb_thread_budget_percent_used(tenant_budget, &percent, &error), &error);
    printf("the tenant has used %.1f %%\n", percent);
    tb_optional_final_budget final;
    must(tb_cleanup_thread(registry, thread, &final, &error), &error);
    printf("the conversation ends with %" PRIu64 " requests and %" PRIu64 " tokens, %.1f %%\n",
           final.value.usage.request_count, final.value.usage.total_tokens, final.value.percent_used);
    tb_optional_final_budget_free(&final);

    tb_thread_budget_free(budget);
    tb_thread_budget_free(tenant_budget);
    tb_registry_free(registry);
    tb_component_free(component);
    return 0;
}
