/* The conformance vectors, put to the component through this layer: `vectors COMPONENT VECTORS_FOLDER`. It prints one
 * JSON object; the exit status is 0 when every vector passed, 1 when not, 2 when it could not run. */
#include "step.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <wasmtime.h>

/* ---- a vector ---- */

/* A value as text, as a JSON string. It is taken. */
static json_t *printed(json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT);
    json_t *string = json_string(text ? text : "?");
    free(text);
    json_decref(value);
    return string;
}

/* What the step expects, as `outcome_of` gives it. */
static json_t *expected_of(struct run *run, const json_t *step) {
    json_t *returns = json_object_get(step, "returns"), *fails = json_object_get(step, "fails");
    if (returns && fails) complain(run, "it has both returns and fails");
    if (fails) return json_pack("{s:O}", "fails", fails);
    return returns ? json_pack("{s:O}", "returns", returns) : json_pack("{s:n}", "returns");
}

/* Put the steps to a fresh registry until one fails, and note that one. */
static bool passes(const tb_component *component, const json_t *steps, const char *name, json_t *failures) {
    if (json_array_size(steps) == 0) give_up("%s has no steps", name);
    struct run run = {.handle_count = 0};
    tb_error error;
    if (tb_registry_new(component, TB_DEFAULT_MEMORY_BYTES, &run.registry, &error) != TB_OK)
        give_up("%s", error.message);
    bool passed = true;
    for (size_t index = 0; passed && index < json_array_size(steps); index++) {
        const json_t *step = json_array_get(steps, index);
        json_t *expected = expected_of(&run, step);
        json_t *got = outcome_of(&run, step);
        if (!got) got = json_pack("{s:s}", "cannot run", run.problem);
        passed = json_equal(got, expected);
        if (passed) {
            json_decref(expected);
            json_decref(got);
        } else {
            json_array_append_new(failures, json_pack("{s:s, s:i, s:o, s:o}", "vector", name, "step", (int)index + 1,
                                                      "expected", printed(expected), "got", printed(got)));
        }
    }
    for (size_t index = 0; index < run.handle_count; index++) tb_thread_budget_free(run.handles[index].budget);
    tb_registry_free(run.registry);
    return passed;
}

static int is_visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* What is in a folder, ascending. */
static int entries_in(const char *folder, struct dirent ***entries) {
    int count = scandir(folder, entries, is_visible, alphasort);
    if (count < 0) give_up("%s cannot be listed", folder);
    return count;
}

/* "folder/name", to be freed. */
static char *joined(const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = allocate(size, 1);
    snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* Every vector of a group. */
static json_t *run_group(const tb_component *component, const char *folder, const char *group, json_t *failures) {
    int passed = 0, failed = 0;
    struct dirent **entries;
    int count = entries_in(folder, &entries);
    for (int index = 0; index < count; index++) {
        char *path = joined(folder, entries[index]->d_name);
        char *end = strstr(entries[index]->d_name, ".json");
        if (!end || end[5]) give_up("%s is no vector", path);
        *end = '\0';
        char *name = joined(group, entries[index]->d_name);
        json_error_t error;
        json_t *vector = json_load_file(path, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
        if (!vector) give_up("%s: %s", path, error.text);
        if (passes(component, json_object_get(vector, "steps"), name, failures))
            passed++;
        else
            failed++;
        json_decref(vector);
        free(name);
        free(path);
        free(entries[index]);
    }
    free(entries);
    return json_pack("{s:i, s:i}", "passed", passed, "failed", failed);
}

/* ---- the time of a call ---- */

#define ROUNDS 25
#define CALLS 400

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static tb_code has_budget(tb_registry *registry, tb_text thread_id) {
    bool exists;
    return tb_has_budget(registry, thread_id, &exists, NULL);
}

static tb_code check_budget(tb_registry *registry, tb_text thread_id) {
    return tb_check_budget(registry, thread_id, 1000, NULL);
}

static tb_code consume(tb_registry *registry, tb_text thread_id) {
    tb_consumed consumed;
    tb_code code = tb_consume(registry, thread_id, 1, 1, &consumed, NULL);
    if (code == TB_OK) tb_consumed_free(&consumed);
    return code;
}

/* The median of several rounds, nanoseconds a call. */
static json_t *time_of(tb_registry *registry, tb_code (*call)(tb_registry *, tb_text)) {
    int64_t rounds[ROUNDS];
    for (size_t round = 0; round < ROUNDS; round++) {
        int64_t start = now();
        for (size_t index = 0; index < CALLS; index++) {
            tb_code code = call(registry, tb_text_of("thread-1"));
            if (code != TB_OK) give_up("a measured call failed: %s", tb_code_name(code));
        }
        rounds[round] = (now() - start) / CALLS;
    }
    qsort(rounds, ROUNDS, sizeof rounds[0], ascending);
    return json_integer(rounds[ROUNDS / 2]);
}

static json_t *measure(const tb_component *component) {
    tb_registry *registry;
    tb_error error;
    tb_code code = tb_registry_new(component, TB_DEFAULT_MEMORY_BYTES, &registry, &error);
    if (code == TB_OK) code = tb_configure(registry, UINT64_C(1) << 40, &error);
    if (code == TB_OK) code = tb_check_budget(registry, tb_text_of("thread-1"), 0, &error);
    if (code != TB_OK) give_up("%s", error.message);
    json_t *times = json_pack("{s:o, s:o, s:o}", "has-budget", time_of(registry, has_budget), "check-budget",
                              time_of(registry, check_budget), "consume", time_of(registry, consume));
    tb_registry_free(registry);
    return times;
}

int main(int count, char **arguments) {
    if (count != 3) give_up("usage: vectors COMPONENT VECTORS_FOLDER");
    tb_component *component;
    tb_error error;
    if (tb_component_open(arguments[1], &component, &error) != TB_OK) give_up("%s", error.message);

    json_t *groups = json_object(), *failures = json_array();
    struct dirent **entries;
    int entry_count = entries_in(arguments[2], &entries);
    for (int index = 0; index < entry_count; index++) {
        char *folder = joined(arguments[2], entries[index]->d_name);
        struct stat status;
        if (stat(folder, &status) == 0 && S_ISDIR(status.st_mode))
            json_object_set_new(groups, entries[index]->d_name,
                                run_group(component, folder, entries[index]->d_name, failures));
        free(folder);
        free(entries[index]);
    }
    free(entries);
    if (json_object_size(groups) == 0) give_up("%s holds no vectors", arguments[2]);

    bool passed = json_array_size(failures) == 0;
    json_t *report = json_pack("{s:s, s:o, s:o, s:o}", "host", "C11, wasmtime " WASMTIME_VERSION, "groups", groups,
                               "failures", failures, "nanoseconds_per_call", measure(component));
    json_dumpf(report, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(report);
    tb_component_free(component);
    return passed ? 0 : 1;
}
