/* Counts the aarch64 instructions that a program under QEMU's user mode executes, by class.
 *
 * A plugin for QEMU >= 7.2 (plugin API version 1). The few functions of that API are declared here, so that no header of
 * QEMU's is needed. Each translated block is classified once and adds its counts whenever it runs: no call per
 * instruction. The counters are not atomic: the guest must be single-threaded, or its counts are low.
 *
 * A region ends where the guest calls close(0x7ED60000 | tag), which fails with EBADF and does nothing else. One line a
 * region is written to the file named by the argument out=FILE: "TAG insn=N load=N ...", and "exit ..." at the end.
 *
 * Encodings: Arm Architecture Reference Manual for A-profile, DDI 0487, section C4.1 (top-level encodings).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
struct insn;
struct info;
typedef void (*translated)(plugin_id, struct block *);
typedef void (*called)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                       uint64_t);
typedef void (*ended)(plugin_id, void *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, called);
extern void qemu_plugin_register_atexit_cb(plugin_id, ended, void *);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct block *, int operation, void *counter, uint64_t amount);
extern size_t qemu_plugin_tb_n_insns(const struct block *);
extern struct insn *qemu_plugin_tb_get_insn(const struct block *, size_t);
extern const void *qemu_plugin_insn_data(const struct insn *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ADD_U64 = 0 };            /* enum qemu_plugin_op */
enum { SYS_CLOSE = 57 };         /* Linux, aarch64 */
#define MARK 0x7ED60000u

enum { INSN, LOAD, STORE, BRANCH, SIMD, FMLA, DOT, MMLA, SMLAL, SVE, CLASSES };
static const char *const names[CLASSES] = {"insn", "load", "store", "branch", "simd",
                                           "fmla", "dot",  "mmla",  "smlal",  "sve"};
static uint64_t counts[CLASSES], reported[CLASSES];
static FILE *out;

static int is(uint32_t word, uint32_t mask, uint32_t value) { return (word & mask) == value; }

/* C4.1.94, loads and stores. A pair counts once; an atomic read-modify-write counts as a load; a prefetch as neither. */
static void count_memory(uint32_t w, uint64_t *n) {
    unsigned opc = (w >> 22) & 3, vector = (w >> 26) & 1;
    int load;
    if (is(w, 0x3a000000, 0x28000000) || is(w, 0xbe000000, 0x0c000000) || is(w, 0x3f000000, 0x08000000))
        load = opc & 1; /* pairs; structures of vectors; exclusive and ordered: L is bit 22 */
    else if (is(w, 0x3b000000, 0x18000000))
        load = 1; /* literal */
    else if (is(w, 0xfbc00000, 0xf9800000) || is(w, 0xffc00c00, 0xf8800000) || is(w, 0xffe00c00, 0xf8a00800))
        return; /* prefetch */
    else if (is(w, 0x3b200c00, 0x38200000))
        load = 1; /* atomic memory operation */
    else
        load = vector ? (opc & 1) : opc != 0;
    n[load ? LOAD : STORE]++;
}

static int is_fmla(uint32_t w) {
    return is(w, 0xbf20fc00, 0x0e20cc00)                                       /* FMLA, FMLS: vectors */
           || is(w, 0xbf60fc00, 0x0e400c00)                                    /* the same in half precision */
           || is(w, 0xbf80b400, 0x0f801000) || is(w, 0xbfc0b400, 0x0f001000)   /* by element; half precision */
           || is(w, 0xff80b400, 0x5f801000) || is(w, 0xffc0b400, 0x5f001000)   /* scalar by element; half precision */
           || is(w, 0xff000000, 0x1f000000);                                   /* FMADD, FMSUB, FNMADD, FNMSUB */
}

static int is_dot(uint32_t w) {
    return is(w, 0x9fe0fc00, 0x0e809400)     /* SDOT, UDOT: vectors */
           || is(w, 0xbfe0fc00, 0x0e809c00)  /* USDOT: vectors */
           || is(w, 0x9fc0f400, 0x0f80e000)  /* SDOT, UDOT: by element */
           || is(w, 0xbf40f400, 0x0f00f000); /* SUDOT, USDOT: by element */
}

static int is_mmla(uint32_t w) {
    return is(w, 0xdfe0fc00, 0x4e80a400)     /* SMMLA, UMMLA */
           || is(w, 0xffe0fc00, 0x4e80ac00); /* USMMLA */
}

static int is_smlal(uint32_t w) {
    uint32_t vectors = w & 0x9f20fc00, element = w & 0x9f00f400; /* [SU]MLAL, [SU]MLSL, [SU]MULL, and their second halves */
    return vectors == 0x0e208000 || vectors == 0x0e20a000 || vectors == 0x0e20c000 || element == 0x0f002000 ||
           element == 0x0f006000 || element == 0x0f00a000;
}

static void count(uint32_t w, uint64_t *n) {
    unsigned group = (w >> 25) & 15; /* op0 of the top-level encoding */
    n[INSN]++;
    if ((group & 5) == 4) {
        count_memory(w, n);
    } else if ((group & 14) == 10) {
        n[BRANCH]++;
    } else if ((group & 7) == 7) {
        n[SIMD]++; /* and scalar floating point */
        n[FMLA] += is_fmla(w);
        n[DOT] += is_dot(w);
        n[MMLA] += is_mmla(w);
        n[SMLAL] += is_smlal(w);
    } else if (group == 2) {
        n[SVE]++;
    }
}

static void on_block(plugin_id id, struct block *block) {
    uint64_t n[CLASSES] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    for (size_t i = 0; i < length; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        count(word, n);
    }
    for (int k = 0; k < CLASSES; k++)
        if (n[k]) qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &counts[k], n[k]);
}

static void report(const char *tag) {
    fputs(tag, out);
    for (int k = 0; k < CLASSES; k++) fprintf(out, " %s=%" PRIu64, names[k], counts[k] - reported[k]);
    fputc('\n', out);
    fflush(out);
    memcpy(reported, counts, sizeof counts);
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                       uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == SYS_CLOSE && (a1 & ~(uint64_t)0xffff) == MARK) {
        char tag[8];
        snprintf(tag, sizeof tag, "%u", (unsigned)(a1 & 0xffff));
        report(tag);
    }
}

static void on_exit_(plugin_id id, void *unused) {
    (void)id, (void)unused;
    report("exit");
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const struct info *info, int argc,
                                                                char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!out) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit_, NULL);
    return 0;
}
