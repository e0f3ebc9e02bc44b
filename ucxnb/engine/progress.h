/* Who drives a UCP worker: one background thread, or the threads that wait in blocking calls.
 *
 * A waiting thread progresses the worker itself; the background thread sees that and stands aside.
 * With nothing to do, whoever drives sleeps in poll() on the worker's event descriptor.
 */
#ifndef UCXNB_PROGRESS_H
#define UCXNB_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "ucp_library.h"

typedef struct ucxnb_driver {
    ucp_worker_h worker;
    int event_fd;      /* UCX's own, readable when there may be something to progress */
    int background_fd; /* eventfd: wakes the background thread out of poll() */
    int waiter_fd;     /* eventfd: wakes the one waiting thread that sleeps in poll() */
    int64_t interval_ns;
    pthread_t thread;
    int running;

    /* Called after every step of progress while `posted` is not 0, by whoever made the step; true if
     * it is to be called again soon. */
    int (*after_step)(struct ucxnb_driver *driver, unsigned count);
    _Atomic int posted;

    /* Called now and then after steps that did something, by whoever made the step; or NULL. */
    void (*in_passing)(struct ucxnb_driver *driver);
    _Atomic unsigned busy_steps; /* since then */

    /* Called when operations have ended inside UCX, by whoever was there, once he is out again: one
     * who is woken earlier, on the same core, finds UCX's spinlock taken by a thread that waits for
     * that core. */
    void (*tell_ended)(struct ucxnb_driver *driver);
    _Atomic int ended; /* since that was called last */

    _Atomic int stop;
    _Atomic int waiters;             /* threads inside ucxnb_wait() */
    _Atomic unsigned events;         /* changes when a waiter must call its `ready` again */
    _Atomic int sleepers;            /* those of them that are asleep, or about to be */
    _Atomic int background_steps;    /* the background thread is inside UCX */
    _Atomic int background_polls;    /* it sleeps in poll() */
    _Atomic int background_naps;     /* it sleeps, standing aside */
    _Atomic int handed_over;         /* those for whom it stands aside have left it the work */
    _Atomic int background_parked;   /* it sleeps until the waiters have left */
    _Atomic uint64_t driven;         /* changes whenever another thread progressed the worker */
    _Atomic int asking;              /* threads between ucxnb_ask_in() and ucxnb_ask_no_more() */

    pthread_mutex_t lock; /* guards what follows; no UCP call is made under it */
    pthread_cond_t woken;
    pthread_cond_t unparked;
    uint64_t epoch; /* changes whenever sleepers must look again */
    int polling;    /* one waiter sleeps in poll(); the others wait for `woken` */

    /* For ucxnb_read_health(); times of ucxnb_now_ns(). */
    int64_t started_ns, ended_ns;
    _Atomic int64_t asleep_ns;       /* in poll(), the sleeps that are over */
    _Atomic int64_t asleep_since_ns; /* of the one that is not, or 0 */
    _Atomic uint64_t wake_ups;
    _Atomic int64_t gap_second; /* written by the background thread, as are: */
    _Atomic int64_t gap_ns, gap_before_ns; /* the longest in that second, and in the one before */
} ucxnb_driver_t;

typedef struct {
    int64_t busy_ns;    /* since the start, somebody was awake to progress the worker */
    uint64_t wake_ups;  /* sleeps in poll() that an event ended */
    int64_t longest_gap_ns;
} ucxnb_health_t;

/* Called again and again by a waiting thread: 0 to go on waiting, UCXNB_AGAIN to be called again at
 * once unless the time is over; anything else ends the wait. */
typedef int (*ucxnb_ready_t)(void *arg);

#define UCXNB_AGAIN (-1)

/* 0, or an errno. */
int ucxnb_driver_start(ucxnb_driver_t *driver, ucp_worker_h worker, long interval_us);

/* Joins the background thread. No thread may be inside any other call. */
void ucxnb_driver_stop(ucxnb_driver_t *driver);

/* Forget, in the child of a fork, a thread that exists in the parent only. */
void ucxnb_driver_abandon(ucxnb_driver_t *driver);

/* One step of progress; what it returns is UCX's count of operations. It lets nobody in before. */
unsigned ucxnb_progress(ucxnb_driver_t *driver);

/* Whether no thread is inside UCX for long: a call of it then comes back within moments. */
static inline int ucxnb_nobody_drives(ucxnb_driver_t *driver)
{
    return atomic_load_explicit(&driver->waiters, memory_order_relaxed) == 0 &&
           !atomic_load_explicit(&driver->background_steps, memory_order_relaxed);
}

/* The background thread stands aside for a while: for one who is about to make steps of progress. */
static inline void ucxnb_take_over(ucxnb_driver_t *driver)
{
    /* An increment that another thread's overwrites does no harm: the value changes. */
    atomic_store_explicit(&driver->driven,
                          atomic_load_explicit(&driver->driven, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Around calls of UCX that must not take long, whatever arrives meanwhile: whoever goes from step to
 * step of progress lets this thread in between. UCX's own lock is not fair: under a flood, each call
 * would wait for many steps. */
static inline void ucxnb_ask_in(ucxnb_driver_t *driver)
{
    atomic_fetch_add(&driver->asking, 1);
}

static inline void ucxnb_ask_no_more(ucxnb_driver_t *driver)
{
    atomic_fetch_sub(&driver->asking, 1);
}

/* Wait until `ready` returns non-zero, which is returned, or until `deadline_ns` of
 * ucxnb_now_ns() or a signal ends the sleep: then 0. With spin 0 it sleeps at once. */
int ucxnb_wait(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t deadline_ns,
               int spin);

/* The same, adding to `operations` what each step of progress returned. */
int ucxnb_wait_counting(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg,
                        int64_t deadline_ns, int spin, uint64_t *operations);

/* Call `ready`, and again after each step that did something, for about `patience_ns`; what it
 * returned. For those who hold the GIL and have seen that nobody drives. */
int ucxnb_look_soon(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t patience_ns);

/* Make every waiter call its `ready` again, asleep or not. Safe inside UCX callbacks. */
void ucxnb_wake_waiters(ucxnb_driver_t *driver);

/* Operations have ended inside UCX: said in its callbacks, to be told outside. */
static inline void ucxnb_note_ended(ucxnb_driver_t *driver)
{
    atomic_store_explicit(&driver->ended, 1, memory_order_release);
}

/* After calls of UCX that may have ended operations: tell those who wait. */
void ucxnb_tell_ended(ucxnb_driver_t *driver);

/* An operation is left pending with nobody waiting for it: the background thread must run. */
void ucxnb_wake_background(ucxnb_driver_t *driver);

/* The caller drove, and goes to sleep where it cannot: the background thread takes over at once. */
void ucxnb_hand_over(ucxnb_driver_t *driver);

/* How progress goes. The clock is read around sleeps, and by the background thread, never between the
 * steps of those who wait: a gap is what the background thread sees of it. */
ucxnb_health_t ucxnb_read_health(ucxnb_driver_t *driver);

/* CLOCK_MONOTONIC, nanoseconds. */
int64_t ucxnb_now_ns(void);

#endif
