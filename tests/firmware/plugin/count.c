/* A QEMU TCG plugin (API version 1) that counts the instructions a guest executes between two markers, themselves excluded.
 * Arm: `mov r9, r9` … `mov r10, r10`; RISC-V: `slti x0, x0, 1` … `slti x0, x0, 2`. They do nothing, and no compiler emits
 * them. Each region's count is a line of the file that the argument `out=FILE` names.
 *
 * Distributions ship no qemu-plugin.h, so what is used of it is declared here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info { const char *target_name; };
typedef void (*translate_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*execute_callback)(unsigned int, void *);
enum { NO_REGISTERS = 0, INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translate_callback);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, execute_callback, int, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t count, opened_at;
static FILE *out;
static uint32_t open_marker, close_marker;
static size_t marker_size;

static void open_region(unsigned int cpu, void *data)
{
    (void)cpu, (void)data;
    opened_at = count;
}

static void close_region(unsigned int cpu, void *data)
{
    (void)cpu, (void)data;
    fprintf(out, "%llu\n", (unsigned long long)(count - opened_at));
    fflush(out);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t code = 0;
        size_t size = qemu_plugin_insn_size(instruction);
        memcpy(&code, qemu_plugin_insn_data(instruction), size < sizeof code ? size : sizeof code);
        if (size == marker_size && code == open_marker)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, open_region, NO_REGISTERS, NULL);
        else if (size == marker_size && code == close_marker)
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, close_region, NO_REGISTERS, NULL);
        else
            qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &count, 1);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info,
                                                               int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
    if (!out) {
        fputs("the plugin needs out=FILE, writable\n", stderr);
        return 1;
    }
    bool arm = !strcmp(info->target_name, "arm");
    marker_size = arm ? 2 : 4;
    open_marker = arm ? 0x46C9 : 0x00102013;
    close_marker = arm ? 0x46D2 : 0x00202013;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
