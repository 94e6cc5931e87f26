/* Threads that run a program together: the caller is the first of them, and none is ahead of another by a step.
 *
 * Whoever waits stays awake for a while and fetches what it reads next, then sleeps. Staying awake alone is the fastest
 * where every thread has a core of its own. Where it has not, a waiting thread keeps from the core the very one it waits
 * for, and a step takes a time slice instead of microseconds; a core that a sleeper has left is free for that one.
 */
#ifndef _WIN32
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
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
    int64_t taken = 0; /* a worker that is alone takes nothing in turns */
    const Worker worker = {0, 1, &taken};
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

#include "ahead.h"

enum { MOST_THREADS = 4096, PROGRAMS = 16 };

/* How long a thread waits awake, in nanoseconds. At a barrier longer than it takes to wake all others: else one late
 * thread would send the others to sleep, their waking would make them late at the next barrier, and so on for ever. A
 * thread that waited so long in vain waits half as long the next time, down to the least. Between calls Python is at
 * work: behind SOON a thread gives way to others on its core, and where it finds some (SLICE), it is SHY: it sleeps so
 * early that many times. */
enum { BARRIER_LEAST = 30000, BARRIER_MOST = 200000, SOON = 100000, IDLE = 4000000, SLICE = 50000, SHY = 200 };

/* What the thread read first in the program that ran after another one. */
typedef struct {
    const Step *program;
    Span places[PLACES];
} Follower;

typedef struct {
    Pool *pool;
    int64_t index;
    pthread_t thread;
    int64_t patience, shy; /* ns at a barrier; waits between calls */
    Ahead ahead;
    const Step *program; /* the last one it ran */
    Follower followers[PROGRAMS];
} Member;

/* A count that threads wait for to change, on a cache line of its own. */
typedef struct {
    char before[CACHE_LINE];
    _Atomic uint32_t value;
    char after[CACHE_LINE - sizeof(uint32_t)];
} Flag;

struct Pool {
    int64_t threads, cache; /* cache: bytes that a thread may fetch ahead */
    Member *members;        /* the caller is the first */
    const Step *steps;
    int64_t count;
    const Call *call;
    _Atomic int closing;
    Flag calls, phases, arrived; /* arrived: threads that are done with the step */
    int64_t taken;               /* of the step, in turns */
    char after[CACHE_LINE];
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

static int changed(Flag *flag, uint32_t old) {
    return atomic_load_explicit(&flag->value, memory_order_acquire) != old;
}

/* Whether the flag changes from `old` within so long. The clock costs as much as a few looks, so it is asked rarely,
 * and not at all when the change comes at once. */
static int changes_within(int64_t ns, Flag *flag, uint32_t old, Ahead *ahead) {
    int64_t until = 0;
    do {
        for (int i = 0; i < 32; i++) {
            if (changed(flag, old)) return 1;
            if (!fetch_more(ahead)) pause_briefly();
        }
        if (!until) until = now_ns() + ns;
    } while (now_ns() < until);
    return 0;
}

static void sleep_until_changed(Pool *pool, Flag *flag, uint32_t old) {
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

static void await_phase(Member *me, uint32_t old) {
    Pool *pool = me->pool;
    if (changes_within(me->patience, &pool->phases, old, &me->ahead)) {
        if (me->patience < BARRIER_MOST) me->patience += me->patience / 256;
        return;
    }
    me->patience = me->patience / 2 < BARRIER_LEAST ? BARRIER_LEAST : me->patience / 2;
    sleep_until_changed(pool, &pool->phases, old);
}

/* Whether the next call comes while the thread stays awake. */
static int called_soon(Member *me, uint32_t seen) {
    Flag *calls = &me->pool->calls;
    if (changes_within(SOON, calls, seen, &me->ahead)) return 1;
    if (me->shy > 0) {
        me->shy--;
        return 0;
    }
    for (int64_t begin = now_ns(), before = begin; before - begin < IDLE; before = now_ns()) {
        sched_yield();
        if (now_ns() - before > SLICE) {
            me->shy = SHY;
            return 0;
        }
        if (changes_within(0, calls, seen, &me->ahead)) return 1;
    }
    return 0;
}

static void await_call(Member *me, uint32_t seen) {
    if (!called_soon(me, seen)) sleep_until_changed(me->pool, &me->pool->calls, seen);
}

/* Until all threads are here. The last one lets the others go. */
static void barrier(Member *me) {
    Pool *pool = me->pool;
    uint32_t phase = atomic_load_explicit(&pool->phases.value, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived.value, 1) + 1 == pool->threads) {
        atomic_store_explicit(&pool->arrived.value, 0, memory_order_relaxed);
        __atomic_store_n(&pool->taken, 0, __ATOMIC_RELAXED);
        change(pool, &pool->phases);
    } else {
        await_phase(me, phase);
    }
}

static Follower *follower_of(Member *me, const Step *program) {
    uintptr_t address = (uintptr_t)program;
    return &me->followers[(address >> 4 ^ address >> 10) % PROGRAMS];
}

/* Before a program's first step, and behind its last: what follows it is what followed it before. Of that only where it
 * lies is kept, for it may be gone: fetching does not mind. Programs that tell nothing do not count. */
static void open_program(Member *me, const Ahead *ahead) {
    me->ahead = *ahead;
    look_ahead(&me->ahead, ahead->step);
    if (me->ahead.step == ahead->end) return;
    Follower *follower = follower_of(me, me->program);
    follower->program = me->program;
    for (int i = 0; i < PLACES; i++) follower->places[i] = me->ahead.places[i];
    me->program = ahead->step;
}

static void close_program(Member *me) {
    const Follower *follower = follower_of(me, me->program);
    me->ahead = (Ahead){.room = follower->program == me->program ? me->pool->cache : 0};
    for (int i = 0; i < PLACES; i++) me->ahead.places[i] = follower->places[i];
}

/* What the pool is to run is read once: behind the last barrier the caller may set the next. */
static void walk(Member *me) {
    Pool *pool = me->pool;
    const Worker worker = {me->index, pool->threads, &pool->taken};
    const Step *step = pool->steps, *end = step + pool->count;
    const Call *call = pool->call;
    open_program(me, &(Ahead){.step = step, .end = end, .call = call, .worker = &worker, .room = pool->cache});
    for (; step < end; step++) {
        pass(&me->ahead, step, pool->cache);
        step->kernel(step->arguments, call, &worker);
        barrier(me);
    }
    close_program(me);
}

static void *serve(void *of) {
    Member *me = of;
    fesetenv(FE_DFL_ENV);
    for (uint32_t seen = 0;; seen++) { /* it misses no call: none ends without it */
        await_call(me, seen);
        if (atomic_load(&me->pool->closing)) return NULL;
        walk(me);
    }
}

/* Starts threads until one fails; how many there are then, the caller included. Signals are the caller's to handle. */
static int64_t start(Pool *pool) {
    int64_t i = 1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; i < pool->threads; i++)
        if (pthread_create(&pool->members[i].thread, NULL, serve, &pool->members[i])) break;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return i;
}

/* A quarter of a thread's second cache: the rest is for what it works on. */
static int64_t bytes_ahead(void) {
#if defined(_SC_LEVEL2_CACHE_SIZE)
    int64_t size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (size > 0) return size / 4;
#endif
    return 128 << 10;
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
    pool->cache = bytes_ahead();
    for (int64_t i = 0; i < threads; i++)
        pool->members[i] = (Member){.pool = pool, .index = i, .patience = BARRIER_MOST};
    int64_t started = start(pool);
    if (started == threads) return pool;
    pool->threads = started;
    offramp_pool_free(pool);
    return NULL;
}

int64_t offramp_pool_threads(const Pool *pool) { return pool->threads; }

void offramp_pool_free(Pool *pool) {
    atomic_store(&pool->closing, 1);
    change(pool, &pool->calls);
    for (int64_t i = 1; i < pool->threads; i++) pthread_join(pool->members[i].thread, NULL);
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
    walk(&pool->members[0]);
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
