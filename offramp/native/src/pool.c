/* Threads that run a program together: the caller is the first of them, and none is ahead of another by a step.
 *
 * Whoever waits spins for a moment, then sleeps. Spinning alone is the fastest where every thread has a core of its
 * own. Where it has not, a thread that spins keeps from the core the very one it waits for, and a step takes a time
 * slice instead of microseconds; a core that a sleeper has left is free for that one.
 */
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#endif
#include <fenv.h>
#include <stdlib.h>

#include "offramp.h"

typedef struct Pool Pool;

int64_t offramp_abi(void);
Pool *offramp_pool(int64_t threads);
int64_t offramp_pool_threads(const Pool *pool);
void offramp_pool_free(Pool *pool);
void offramp_run(Pool *pool, const Step *steps, int64_t count, const Call *call);

int64_t offramp_abi(void) { return OFFRAMP_ABI; }

static void run_alone(const Step *steps, int64_t count, const Call *call) {
    const Worker worker = {0, 1};
    for (int64_t i = 0; i < count; i++) steps[i].kernel(steps[i].arguments, call, &worker);
}

#ifdef _WIN32 /* one thread, whatever is asked for */

struct Pool {
    int64_t threads;
};

Pool *offramp_pool(int64_t threads) {
    Pool *pool = malloc(sizeof *pool);
    (void)threads;
    if (pool) pool->threads = 1;
    return pool;
}

int64_t offramp_pool_threads(const Pool *pool) { return pool->threads; }

void offramp_pool_free(Pool *pool) { free(pool); }

static void run_together(Pool *pool, const Step *steps, int64_t count, const Call *call) {
    (void)pool;
    run_alone(steps, count, call);
}

#else

enum { MOST_THREADS = 4096, LINE = 64 };
/* A barrier spins longer than it takes to wake all others: else one late thread would send the others to sleep, their
 * waking would make them late at the next barrier, and so on for ever. Between calls Python is at work. */
enum { BARRIER_NS = 30 * 1000, IDLE_NS = 100 * 1000 };

typedef struct {
    Pool *pool;
    int64_t index;
    pthread_t thread;
} Member;

/* A count that threads wait for to change, on a cache line of its own. */
typedef struct {
    char before[LINE];
    _Atomic uint32_t value;
    char after[LINE - sizeof(uint32_t)];
} Flag;

struct Pool {
    int64_t threads;
    Member *members; /* those beside the caller */
    const Step *steps;
    int64_t count;
    const Call *call;
    _Atomic int closing;
    Flag calls, phases, arrived; /* arrived: threads that are done with the step */
    _Atomic uint32_t sleepers;
    pthread_mutex_t mutex; /* of those who sleep, whatever they wait for */
    pthread_cond_t wake;
};

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Whether the flag changes from `old` within so long. The clock costs as much as a few looks, so it is asked rarely,
 * and not at all when the change comes at once. */
static int changes_within(int64_t ns, Flag *flag, uint32_t old) {
    int64_t until = 0;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&flag->value, memory_order_acquire) != old) return 1;
            pause_briefly();
        }
        if (!until) until = now_ns() + ns;
    } while (now_ns() < until);
    return 0;
}

static void await(Pool *pool, Flag *flag, uint32_t old, int64_t ns) {
    if (changes_within(ns, flag, old)) return;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before the next look: who changes the flag looks here after it */
    while (atomic_load(&flag->value) == old) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void change(Pool *pool, Flag *flag) {
    atomic_fetch_add(&flag->value, 1);
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Until all threads are here. The last one lets the others go. */
static void barrier(Pool *pool) {
    uint32_t phase = atomic_load_explicit(&pool->phases.value, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived.value, 1) + 1 == pool->threads) {
        atomic_store_explicit(&pool->arrived.value, 0, memory_order_relaxed);
        change(pool, &pool->phases);
    } else {
        await(pool, &pool->phases, phase, BARRIER_NS);
    }
}

/* What the pool is to run is read once: behind the last barrier the caller may set the next. */
static void walk(Pool *pool, int64_t index) {
    const Worker worker = {index, pool->threads};
    const Step *step = pool->steps, *end = step + pool->count;
    const Call *call = pool->call;
    for (; step < end; step++) {
        step->kernel(step->arguments, call, &worker);
        barrier(pool);
    }
}

static void *serve(void *of) {
    Member *member = of;
    Pool *pool = member->pool;
    fesetenv(FE_DFL_ENV);
    for (uint32_t seen = 0;; seen++) { /* it misses no call: none ends without it */
        await(pool, &pool->calls, seen, IDLE_NS);
        if (atomic_load(&pool->closing)) return NULL;
        walk(pool, member->index);
    }
}

/* Starts threads until one fails; how many there are then, the caller included. Signals are the caller's to handle. */
static int64_t start(Pool *pool, int64_t threads) {
    int64_t i = 1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; i < threads; i++) {
        Member *member = &pool->members[i - 1];
        *member = (Member){.pool = pool, .index = i};
        if (pthread_create(&member->thread, NULL, serve, member)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return i;
}

/* NULL where the system has no memory for it or gives fewer threads. */
Pool *offramp_pool(int64_t threads) {
    if (threads < 1 || threads > MOST_THREADS) return NULL;
    Pool *pool = calloc(1, sizeof *pool);
    if (!pool || !(pool->members = calloc((size_t)threads, sizeof *pool->members))) {
        free(pool);
        return NULL;
    }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->threads = threads;
    int64_t started = start(pool, threads);
    if (started == threads) return pool;
    pool->threads = started;
    offramp_pool_free(pool);
    return NULL;
}

int64_t offramp_pool_threads(const Pool *pool) { return pool->threads; }

void offramp_pool_free(Pool *pool) {
    atomic_store(&pool->closing, 1);
    change(pool, &pool->calls);
    for (int64_t i = 1; i < pool->threads; i++) pthread_join(pool->members[i - 1].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->members);
    free(pool);
}

static void run_together(Pool *pool, const Step *steps, int64_t count, const Call *call) {
    pool->steps = steps;
    pool->count = count;
    pool->call = call;
    change(pool, &pool->calls);
    walk(pool, 0);
}

#endif

/* Runs the steps over all threads. One run of a pool at a time. Every thread computes in the standard floating-point
 * environment: the caller's may flush small numbers to zero, and results would depend on who had computed them. */
void offramp_run(Pool *pool, const Step *steps, int64_t count, const Call *call) {
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    if (offramp_pool_threads(pool) == 1) {
        run_alone(steps, count, call);
    } else if (count > 0) { /* a call without a barrier could be missed */
        run_together(pool, steps, count, call);
    }
    fesetenv(&callers);
}
