#include "thread_budget.h"
#include "call.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct tb_component {
    wasm_engine_t *engine;
    wasmtime_component_t *component;
    wasmtime_component_linker_t *linker;
    /* As many as there are signatures. */
    wasmtime_component_export_index_t *exports[];
};

/* A fresh instance. The types of what it exports are not looked at. */
static tb_code instantiate(const tb_component *component, size_t max_memory_bytes, tb_registry **out,
                           tb_error *error) {
    tb_registry *registry = calloc(1, sizeof *registry + signature_count * sizeof registry->functions[0]);
    if (!registry) return fail(error, TB_NO_HOST_MEMORY, "no memory left for a registry");
    registry->users = 1;
    registry->store = wasmtime_store_new(component->engine, NULL, NULL);
    registry->context = wasmtime_store_context(registry->store);
    /* A negative number is no cap. */
    wasmtime_store_limiter(registry->store, max_memory_bytes > INT64_MAX ? -1 : (int64_t)max_memory_bytes, -1, -1, -1,
                           -1);
    wasmtime_component_instance_t instance;
    wasmtime_error_t *failure = wasmtime_component_linker_instantiate(component->linker, registry->context,
                                                                      component->component, &instance);
    if (failure) {
        tb_registry_free(registry);
        return fail_with(error, TB_UNUSABLE_COMPONENT, failure);
    }
    for (size_t number = 0; number < signature_count; number++) {
        if (wasmtime_component_instance_get_func(&instance, registry->context, component->exports[number],
                                                 &registry->functions[number]))
            continue;
        tb_registry_free(registry);
        return fail(error, TB_UNUSABLE_COMPONENT, "%s is exported, but is no function", signatures[number].name);
    }
    *out = registry;
    return TB_OK;
}

static bool find_exports(tb_component *component, tb_error *error) {
    for (size_t number = 0; number < signature_count; number++) {
        const struct signature *signature = &signatures[number];
        wasmtime_component_export_index_t *interface = wasmtime_component_get_export_index(
            component->component, NULL, signature->interface, strlen(signature->interface));
        if (interface)
            component->exports[number] = wasmtime_component_get_export_index(
                component->component, interface, signature->name, strlen(signature->name));
        wasmtime_component_export_index_delete(interface);
        if (component->exports[number]) continue;
        fail(error, TB_UNUSABLE_COMPONENT, "it does not export %s of %s; take one of that version", signature->name,
             signature->interface);
        return false;
    }
    return true;
}

static bool signature_matches(const struct signature *signature, const wasmtime_component_func_type_t *actual) {
    wasmtime_component_valtype_t type;
    const char *name;
    size_t length;
    if (wasmtime_component_func_type_param_count(actual) != signature->parameter_count) return false;
    for (size_t index = 0; index < signature->parameter_count; index++) {
        if (!wasmtime_component_func_type_param_nth(actual, index, &name, &length, &type)) return false;
        bool matches = type_matches(signature->parameters[index].type, &type);
        wasmtime_component_valtype_delete(&type);
        if (!matches) return false;
    }
    if (!wasmtime_component_func_type_result(actual, &type)) return !signature->result;
    bool matches = signature->result && type_matches(signature->result, &type);
    wasmtime_component_valtype_delete(&type);
    return matches;
}

/* Values are read without looking at their types again, so all types are looked at here, in an instance. */
static tb_code check_types(const tb_component *component, tb_error *error) {
    tb_registry *registry;
    tb_code code = instantiate(component, TB_DEFAULT_MEMORY_BYTES, &registry, error);
    if (code != TB_OK) return code;
    for (size_t number = 0; number < signature_count && code == TB_OK; number++) {
        wasmtime_component_func_type_t *type =
            wasmtime_component_func_type(&registry->functions[number], registry->context);
        if (!signature_matches(&signatures[number], type))
            code = fail(error, TB_UNUSABLE_COMPONENT, "%s of %s has other types than this host knows",
                        signatures[number].name, signatures[number].interface);
        wasmtime_component_func_type_delete(type);
    }
    tb_registry_free(registry);
    return code;
}

static tb_code prepare(tb_component *component, const uint8_t *bytes, size_t length, tb_error *error) {
    wasm_config_t *config = wasm_config_new();
    /* Calls are made one after the other; support for more costs every one of them. */
    wasmtime_config_concurrency_support_set(config, false);
    /* Compiling takes a moment only, and a pool of threads for it would stay in the process. */
    wasmtime_config_parallel_compilation_set(config, false);
    component->engine = wasm_engine_new_with_config(config);
    if (!component->engine) return fail(error, TB_UNUSABLE_COMPONENT, "wasmtime does not run on this machine");
    component->linker = wasmtime_component_linker_new(component->engine);
    wasmtime_error_t *failure = wasmtime_component_new(component->engine, bytes, length, &component->component);
    if (failure) return fail_with(error, TB_UNUSABLE_COMPONENT, failure);
    return find_exports(component, error) ? check_types(component, error) : TB_UNUSABLE_COMPONENT;
}

tb_code tb_component_new(const uint8_t *bytes, size_t length, tb_component **out, tb_error *error) {
    if (!bytes || !out) return fail_argument(error, TB_INVALID_ARGUMENT);
    tb_component *component = calloc(1, sizeof *component + signature_count * sizeof component->exports[0]);
    if (!component) return fail(error, TB_NO_HOST_MEMORY, "no memory left for a component");
    tb_code code = prepare(component, bytes, length, error);
    if (code == TB_OK)
        *out = component;
    else
        tb_component_free(component);
    return code;
}

/* What the file holds, to be freed, also when it cannot be read. */
static tb_code read_file(const char *path, uint8_t **bytes, size_t *length, tb_error *error) {
    FILE *file = fopen(path, "rb");
    if (!file) return fail(error, TB_UNUSABLE_COMPONENT, "%s: %s", path, strerror(errno));
    tb_code code = TB_OK;
    size_t capacity = 0;
    do {
        if (*length == capacity) {
            capacity = capacity ? 2 * capacity : 128 << 10;
            uint8_t *grown = realloc(*bytes, capacity);
            if (!grown) {
                code = fail(error, TB_NO_HOST_MEMORY, "no memory left for %s", path);
                break;
            }
            *bytes = grown;
        }
        *length += fread(*bytes + *length, 1, capacity - *length, file);
        if (ferror(file)) code = fail(error, TB_UNUSABLE_COMPONENT, "%s: %s", path, strerror(errno));
    } while (code == TB_OK && !feof(file));
    fclose(file);
    return code;
}

tb_code tb_component_open(const char *path, tb_component **out, tb_error *error) {
    if (!path || !out) return fail_argument(error, TB_INVALID_ARGUMENT);
    uint8_t *bytes = NULL;
    size_t length = 0;
    tb_code code = read_file(path, &bytes, &length, error);
    if (code == TB_OK) code = tb_component_new(bytes, length, out, error);
    free(bytes);
    return code;
}

void tb_component_free(tb_component *component) {
    if (!component) return;
    for (size_t number = 0; number < signature_count; number++)
        wasmtime_component_export_index_delete(component->exports[number]);
    if (component->component) wasmtime_component_delete(component->component);
    if (component->linker) wasmtime_component_linker_delete(component->linker);
    if (component->engine) wasm_engine_delete(component->engine);
    free(component);
}

/* ---- the registry and its handles ---- */

tb_code tb_registry_new(const tb_component *component, size_t max_memory_bytes, tb_registry **registry,
                        tb_error *error) {
    if (!component || !registry) return fail_argument(error, TB_INVALID_ARGUMENT);
    return instantiate(component, max_memory_bytes, registry, error);
}

void tb_registry_free(tb_registry *registry) {
    if (!registry || --registry->users > 0) return;
    wasmtime_store_delete(registry->store);
    free(registry);
}
