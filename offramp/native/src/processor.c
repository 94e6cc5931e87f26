/* What the processor and its operating system can run; asked of the plain library before another is opened. */
#define _GNU_SOURCE /* syscall */
#include "offramp.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

int64_t offramp_runs_amx(void);
int64_t offramp_runs_avx2(void);
int64_t offramp_runs_avx512(void);
int64_t offramp_runs_avx512bf16(void);

#if defined(__x86_64__)
/* Every processor with AVX2 has F16C too, which older compilers cannot ask for. */
int64_t offramp_runs_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

int64_t offramp_runs_avx512(void) {
    return offramp_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

int64_t offramp_runs_avx512bf16(void) {
    return offramp_runs_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}
#else
int64_t offramp_runs_avx2(void) { return 0; }
int64_t offramp_runs_avx512(void) { return 0; }
int64_t offramp_runs_avx512bf16(void) { return 0; }
#endif

#if defined(__x86_64__) && defined(__linux__)
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };

/* Linux gives a process the memory of the tiles on request, for all its threads and for what it forks. */
int64_t offramp_runs_amx(void) {
    unsigned a, b, c, d, all = AMX_BF16 | AMX_TILE | AMX_INT8;
    if (!offramp_runs_avx512bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & all) != all) return 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#else
int64_t offramp_runs_amx(void) { return 0; }
#endif
