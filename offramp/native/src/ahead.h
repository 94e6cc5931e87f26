/* What a thread reads soon: it is fetched while the thread waits, for memory would idle at every barrier. */
#ifndef OFFRAMP_AHEAD_H
#define OFFRAMP_AHEAD_H

#include "fetch.h"
#include "offramp.h"

enum { PORTION = 512, CACHE_LINE = 64 }; /* bytes of a place between two looks at what the thread waits for */

/* Of the steps from `step` on, the first that says what it reads; places may also be known without their step. */
typedef struct {
    const Step *step, *end;
    const Call *call;
    const Worker *worker;
    Span places[PLACES];
    int64_t done; /* bytes of each place */
    int64_t room; /* bytes that the cache takes before what was fetched is read */
} Ahead;

static void look_ahead(Ahead *ahead, const Step *step) {
    while (step < ahead->end && !step->reads) step++;
    ahead->step = step;
    ahead->done = 0;
    for (int i = 0; i < PLACES; i++) ahead->places[i] = (Span){0};
    if (step < ahead->end) step->reads(step->arguments, ahead->call, ahead->worker, ahead->places);
}

/* The step begins: what was fetched for it no longer counts. */
static void pass(Ahead *ahead, const Step *step, int64_t room) {
    if (!step->reads) return;
    ahead->room = room;
    if (ahead->step <= step) look_ahead(ahead, step + 1);
}

static int64_t fetch_portion(const Span *place, int64_t done) {
    int64_t end = done + PORTION < place->bytes ? done + PORTION : place->bytes;
    for (int64_t i = done; i < end; i += CACHE_LINE) fetch(place->at, i);
    return end > done ? end - done : 0;
}

/* Whether there was more to fetch. */
static int fetch_more(Ahead *ahead) {
    int64_t fetched = 0;
    if (ahead->room <= 0) return 0;
    for (int i = 0; i < PLACES; i++) fetched += fetch_portion(&ahead->places[i], ahead->done);
    ahead->done += PORTION;
    ahead->room -= fetched;
    if (fetched) return 1;
    if (ahead->step < ahead->end) look_ahead(ahead, ahead->step + 1);
    if (ahead->step == ahead->end) ahead->room = 0;
    return 1;
}

#endif
