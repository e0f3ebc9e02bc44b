#include "progress.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Steps of progress that find nothing before a waiter looks at the clock, or gives way. */
#define IDLE_STEPS 16
/* And before the background thread sleeps. */
#define BACKGROUND_IDLE_STEPS 64
/* And steps that find something. */
#define BUSY_STEPS 256
/* A waiter spins this long, then gives way to other processes between steps, then sleeps. Where the
 * peer shares its core, the spinning is in the peer's way; where it does not, giving way costs little. */
#define SPIN_NS 1000
#define YIELD_NS 60000
/* How often one who drives gives way, between two steps, to those who ask to be let in. */
#define YIELDS_TO_ASKING 64
/* The background thread, which stands aside, looks this often at least, or at its own interval. */
#define LONG_NAP_NS 1000000
/* Steps of progress before a thread that has little time looks at the clock. */
#define STEPS_PER_LOOK 8
/* Steps that did something between two calls of `in_passing`. */
#define STEPS_PER_PASSING 256
/* No sleep is longer: a wake-up that a transport failed to signal costs this much at worst. */
#define LONGEST_SLEEP_MS 100

int64_t ucxnb_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void signal_fd(int fd)
{
    uint64_t one = 1;

    /* An eventfd refuses only when its counter is full, and then it is readable anyway. */
    if (write(fd, &one, sizeof one) < 0) {
        return;
    }
}

static void drain_fd(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof count) < 0) {
        return;
    }
}

/* `own`: how many of the waiters need not be told. */
static void tell_waiters(ucxnb_driver_t *driver, int own)
{
    /* A thread that begins to wait after this look calls its `ready` first. */
    if (atomic_load(&driver->waiters) <= own) {
        return;
    }
    atomic_fetch_add(&driver->events, 1);
    if (atomic_load(&driver->sleepers) == 0) {
        return;
    }
    pthread_mutex_lock(&driver->lock);
    driver->epoch++;
    if (driver->polling) {
        signal_fd(driver->waiter_fd);
    }
    pthread_cond_broadcast(&driver->woken);
    pthread_mutex_unlock(&driver->lock);
}

void ucxnb_wake_waiters(ucxnb_driver_t *driver)
{
    tell_waiters(driver, 0);
}

void ucxnb_wake_background(ucxnb_driver_t *driver)
{
    if (atomic_load(&driver->background_polls)) {
        signal_fd(driver->background_fd);
    }
}

void ucxnb_hand_over(ucxnb_driver_t *driver)
{
    atomic_store(&driver->handed_over, 1);
    if (atomic_load(&driver->background_polls) || atomic_load(&driver->background_naps)) {
        signal_fd(driver->background_fd);
    }
}

void ucxnb_tell_ended(ucxnb_driver_t *driver)
{
    if (atomic_load_explicit(&driver->ended, memory_order_acquire)) {
        atomic_store(&driver->ended, 0);
        driver->tell_ended(driver);
        tell_waiters(driver, 0);
    }
}

static void pass(ucxnb_driver_t *driver)
{
    /* Should two threads count at the same moment, one of the two is forgotten. */
    unsigned steps = atomic_load_explicit(&driver->busy_steps, memory_order_relaxed) + 1;

    atomic_store_explicit(&driver->busy_steps, steps % STEPS_PER_PASSING, memory_order_relaxed);
    if (steps == STEPS_PER_PASSING && driver->in_passing != NULL) {
        driver->in_passing(driver);
    }
}

/* `*again` is set if there is more to do at once, whatever UCX says; `waits`: the caller is himself
 * one of the waiters, and looks after a step that did something. */
static unsigned step(ucxnb_driver_t *driver, int *again, int waits)
{
    unsigned count = ucxnb_ucp.ucp_worker_progress(driver->worker);

    if (count != 0) {
        /* What this step completed may be what another thread waits for. */
        tell_waiters(driver, waits);
        pass(driver);
    }
    if (atomic_load_explicit(&driver->posted, memory_order_relaxed) != 0) {
        *again |= driver->after_step(driver, count);
    }
    ucxnb_tell_ended(driver);
    return count;
}

/* One of many steps in a row: others are let in before. */
static unsigned step_in_turn(ucxnb_driver_t *driver, int *again, int waits)
{
    int yields = 0;

    while (atomic_load_explicit(&driver->asking, memory_order_relaxed) > 0 &&
           yields++ < YIELDS_TO_ASKING) {
        sched_yield();
    }
    return step(driver, again, waits);
}

unsigned ucxnb_progress(ucxnb_driver_t *driver)
{
    int again = 0;

    ucxnb_take_over(driver);
    return step(driver, &again, 0);
}

/* ---- how progress goes ---- */

#define SECOND_NS 1000000000

static void note_sleep(ucxnb_driver_t *driver, int64_t since_ns, int woken)
{
    int64_t since = since_ns; /* another thread may have gone to sleep since then */

    atomic_compare_exchange_strong(&driver->asleep_since_ns, &since, 0);
    atomic_fetch_add(&driver->asleep_ns, ucxnb_now_ns() - since_ns);
    if (woken) {
        atomic_fetch_add(&driver->wake_ups, 1);
    }
}

/* Nobody progressed the worker for so long, up to now. */
static void note_gap(ucxnb_driver_t *driver, int64_t gap_ns, int64_t now_ns)
{
    int64_t second = now_ns / SECOND_NS, before = atomic_load(&driver->gap_second);

    if (second != before) {
        atomic_store(&driver->gap_before_ns,
                     second == before + 1 ? atomic_load(&driver->gap_ns) : 0);
        atomic_store(&driver->gap_ns, 0);
        atomic_store(&driver->gap_second, second);
    }
    if (gap_ns > atomic_load_explicit(&driver->gap_ns, memory_order_relaxed)) {
        atomic_store(&driver->gap_ns, gap_ns);
    }
}

ucxnb_health_t ucxnb_read_health(ucxnb_driver_t *driver)
{
    int64_t now = driver->running ? ucxnb_now_ns() : driver->ended_ns;
    int64_t since = atomic_load(&driver->asleep_since_ns), second = now / SECOND_NS;
    int64_t asleep = atomic_load(&driver->asleep_ns), gap = 0, noted;
    ucxnb_health_t health;

    if (since != 0 && now > since) {
        asleep += now - since;
    }
    /* Two sleeps overlap for a moment when one thread takes over from the other. */
    health.busy_ns = now - driver->started_ns - asleep;
    if (health.busy_ns < 0) {
        health.busy_ns = 0;
    }
    health.wake_ups = atomic_load(&driver->wake_ups);
    noted = atomic_load(&driver->gap_second);
    if (second <= noted + 1) {
        gap = atomic_load(&driver->gap_ns);
    }
    if (second <= noted && atomic_load(&driver->gap_before_ns) > gap) {
        gap = atomic_load(&driver->gap_before_ns);
    }
    health.longest_gap_ns = gap;
    return health;
}

/* Non-zero if a signal ended the sleep. */
static int poll_events(ucxnb_driver_t *driver, int wake_fd, int timeout_ms)
{
    struct pollfd fds[2] = {{driver->event_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    int interrupted, ready;
    int64_t since;

    if (ucxnb_ucp.ucp_worker_arm(driver->worker) != UCS_OK) {
        return 0; /* something came in the meantime */
    }
    since = ucxnb_now_ns();
    atomic_store(&driver->asleep_since_ns, since);
    ready = poll(fds, 2, timeout_ms);
    interrupted = ready < 0 && errno == EINTR;
    note_sleep(driver, since, ready > 0 && fds[0].revents);
    if (!interrupted && fds[1].revents) {
        drain_fd(wake_fd);
    }
    return interrupted;
}

/* ---- the waiting threads ---- */

static int sleep_ms_until(int64_t deadline_ns)
{
    int64_t left = deadline_ns - ucxnb_now_ns();

    if (left <= 0) {
        return 0;
    }
    return left > LONGEST_SLEEP_MS * 1000000LL ? LONGEST_SLEEP_MS : (int)(left / 1000000 + 1);
}

static int sleep_as_poller(ucxnb_driver_t *driver, int timeout_ms)
{
    int interrupted;

    /* Two threads asleep on one descriptor would both wake: the background thread parks. */
    ucxnb_wake_background(driver);
    interrupted = poll_events(driver, driver->waiter_fd, timeout_ms);
    pthread_mutex_lock(&driver->lock);
    driver->polling = 0;
    driver->epoch++;
    pthread_cond_broadcast(&driver->woken);
    pthread_mutex_unlock(&driver->lock);
    return interrupted;
}

static void sleep_as_follower(ucxnb_driver_t *driver, uint64_t epoch, int timeout_ms)
{
    struct timespec until;
    int64_t end = ucxnb_now_ns() + timeout_ms * 1000000LL;

    until.tv_sec = end / 1000000000;
    until.tv_nsec = end % 1000000000;
    while (driver->epoch == epoch &&
           pthread_cond_timedwait(&driver->woken, &driver->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&driver->lock);
}

/* Non-zero if a signal ended the sleep. */
static int sleep_waiter(ucxnb_driver_t *driver, uint64_t epoch, int64_t deadline_ns)
{
    int timeout_ms = sleep_ms_until(deadline_ns), interrupted = 0;

    pthread_mutex_lock(&driver->lock);
    if (driver->epoch != epoch) {
        pthread_mutex_unlock(&driver->lock);
    } else if (driver->polling) {
        sleep_as_follower(driver, epoch, timeout_ms);
    } else {
        driver->polling = 1;
        pthread_mutex_unlock(&driver->lock);
        interrupted = sleep_as_poller(driver, timeout_ms);
    }
    return interrupted;
}

static uint64_t read_epoch(ucxnb_driver_t *driver)
{
    uint64_t epoch;

    pthread_mutex_lock(&driver->lock);
    epoch = driver->epoch;
    pthread_mutex_unlock(&driver->lock);
    return epoch;
}

static int wait_loop(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t deadline_ns,
                     int spin, uint64_t *operations)
{
    unsigned idle = 0, busy = 0, count, events;
    int64_t idle_since = 0, now;
    uint64_t epoch;
    int result, again, interrupted;

    for (;;) {
        events = atomic_load(&driver->events);
        if ((result = ready(arg)) != 0 && result != UCXNB_AGAIN) {
            return result;
        }
        again = result == UCXNB_AGAIN;
        /* There is no need to ask again before something has happened. */
        while ((count = step_in_turn(driver, &again, 1)) == 0 && !again && spin &&
               (idle + 1) % IDLE_STEPS != 0 &&
               atomic_load_explicit(&driver->events, memory_order_relaxed) == events) {
            idle++;
        }
        if (count != 0 || again) {
            *operations += count;
            idle = 0;
            if ((again || ++busy % BUSY_STEPS == 0) && ucxnb_now_ns() >= deadline_ns) {
                return 0;
            }
            continue;
        }
        if (++idle % IDLE_STEPS != 0 && spin) {
            continue;
        }
        now = ucxnb_now_ns();
        if (now >= deadline_ns) {
            return 0;
        }
        if (spin) {
            if (idle == IDLE_STEPS) {
                idle_since = now;
            }
            if (now - idle_since < SPIN_NS) {
                continue;
            }
            if (now - idle_since < YIELD_NS) {
                sched_yield();
                continue;
            }
        }
        atomic_fetch_add(&driver->sleepers, 1);
        epoch = read_epoch(driver);
        /* From here on others wake this thread; look once more at what came before. */
        interrupted = 0;
        if ((result = ready(arg)) == 0) {
            count = step_in_turn(driver, &again, 1);
            if (count == 0 && !again) {
                interrupted = sleep_waiter(driver, epoch, deadline_ns);
            }
            *operations += count;
        }
        atomic_fetch_sub(&driver->sleepers, 1);
        if (result == UCXNB_AGAIN) {
            idle = 0;
            continue;
        }
        if (result != 0 || interrupted) {
            return result;
        }
        if (ucxnb_now_ns() - now > LONGEST_SLEEP_MS * 900000LL) {
            spin = 0; /* nothing for so long: the next look need not spin */
        }
        idle = 0;
    }
}

int ucxnb_wait(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t deadline_ns,
               int spin)
{
    uint64_t operations = 0;

    return ucxnb_wait_counting(driver, ready, arg, deadline_ns, spin, &operations);
}

int ucxnb_wait_counting(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg,
                        int64_t deadline_ns, int spin, uint64_t *operations)
{
    int result;

    atomic_fetch_add(&driver->waiters, 1);
    result = wait_loop(driver, ready, arg, deadline_ns, spin, operations);
    ucxnb_take_over(driver);
    if (atomic_fetch_sub(&driver->waiters, 1) == 1 && atomic_load(&driver->background_parked)) {
        pthread_mutex_lock(&driver->lock);
        pthread_cond_signal(&driver->unparked);
        pthread_mutex_unlock(&driver->lock);
    }
    return result;
}

/* ---- the background thread ---- */

static void park(ucxnb_driver_t *driver)
{
    pthread_mutex_lock(&driver->lock);
    atomic_store(&driver->background_parked, 1);
    while (atomic_load(&driver->waiters) > 0 && !atomic_load(&driver->stop)) {
        pthread_cond_wait(&driver->unparked, &driver->lock);
    }
    atomic_store(&driver->background_parked, 0);
    pthread_mutex_unlock(&driver->lock);
}

/* `times`: how often in a row. Each look takes time from those who drive, so if they go on and on the
 * looks become rarer. */
static void stand_aside(ucxnb_driver_t *driver, unsigned times)
{
    struct pollfd woken = {driver->background_fd, POLLIN, 0};
    int64_t nap_ns = driver->interval_ns;
    struct timespec nap;

    while (times-- > 0 && nap_ns < LONG_NAP_NS) {
        nap_ns *= 2;
    }
    nap.tv_sec = nap_ns / 1000000000;
    nap.tv_nsec = nap_ns % 1000000000;
    atomic_store(&driver->background_naps, 1);
    if (!atomic_load(&driver->handed_over) && ppoll(&woken, 1, &nap, NULL) > 0) {
        drain_fd(driver->background_fd);
    }
    atomic_store(&driver->background_naps, 0);
}

static void *background(void *arg)
{
    ucxnb_driver_t *driver = arg;
    uint64_t seen = atomic_load(&driver->driven), driven;
    unsigned idle = 0, aside = 0, count;
    int64_t looked = 0, now;
    int again;

    while (!atomic_load(&driver->stop)) {
        if (atomic_load(&driver->waiters) > 0) {
            looked = 0; /* they see to it */
            if (atomic_load(&driver->sleepers) > 0) {
                park(driver);
            } else {
                stand_aside(driver, aside++);
            }
            continue;
        }
        driven = atomic_load_explicit(&driver->driven, memory_order_relaxed);
        if (driven != seen && !atomic_exchange(&driver->handed_over, 0)) {
            seen = driven;
            looked = ucxnb_now_ns();
            stand_aside(driver, aside++);
            continue;
        }
        seen = driven;
        aside = 0;
        again = 0;
        if (idle % IDLE_STEPS == 0) { /* also after each step that did something */
            now = ucxnb_now_ns();
            if (looked != 0) {
                note_gap(driver, now - looked, now);
            }
            looked = now;
        }
        atomic_store_explicit(&driver->background_steps, 1, memory_order_relaxed);
        count = step_in_turn(driver, &again, 0);
        atomic_store_explicit(&driver->background_steps, 0, memory_order_relaxed);
        if (count != 0 || again) {
            idle = 0;
            continue;
        }
        if (++idle < BACKGROUND_IDLE_STEPS) {
            continue;
        }
        idle = 0;
        atomic_store(&driver->background_polls, 1);
        if (atomic_load(&driver->waiters) == 0 && !atomic_load(&driver->stop)) {
            looked = ucxnb_now_ns();
            poll_events(driver, driver->background_fd, LONGEST_SLEEP_MS);
            now = ucxnb_now_ns();
            if (now - looked > LONGEST_SLEEP_MS * 1000000LL) { /* it should have been awake */
                note_gap(driver, now - looked - LONGEST_SLEEP_MS * 1000000LL, now);
            }
        }
        looked = 0;
        atomic_store(&driver->background_polls, 0);
    }
    return NULL;
}

static int start_thread(ucxnb_driver_t *driver)
{
    sigset_t all, before;
    int error;

    /* Signals are for Python's threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&driver->thread, NULL, background, driver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        pthread_setname_np(driver->thread, "ucxnb-progress");
    }
    return error;
}

static void close_descriptors(ucxnb_driver_t *driver)
{
    if (driver->background_fd >= 0) {
        close(driver->background_fd);
    }
    if (driver->waiter_fd >= 0) {
        close(driver->waiter_fd);
    }
}

int ucxnb_driver_start(ucxnb_driver_t *driver, ucp_worker_h worker, long interval_us)
{
    pthread_condattr_t monotonic;
    int error;

    memset(driver, 0, sizeof *driver);
    driver->worker = worker;
    driver->started_ns = driver->ended_ns = ucxnb_now_ns();
    driver->interval_ns = interval_us * 1000;
    if (ucxnb_ucp.ucp_worker_get_efd(worker, &driver->event_fd) != UCS_OK) {
        return ENOTSUP;
    }
    driver->background_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    driver->waiter_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (driver->background_fd < 0 || driver->waiter_fd < 0) {
        error = errno;
        close_descriptors(driver);
        return error;
    }
    pthread_mutex_init(&driver->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&driver->woken, &monotonic);
    pthread_cond_init(&driver->unparked, &monotonic);
    pthread_condattr_destroy(&monotonic);
    error = start_thread(driver);
    if (error != 0) {
        close_descriptors(driver);
        return error;
    }
    driver->running = 1;
    return 0;
}

void ucxnb_driver_stop(ucxnb_driver_t *driver)
{
    if (!driver->running) {
        return;
    }
    atomic_store(&driver->stop, 1);
    signal_fd(driver->background_fd);
    pthread_mutex_lock(&driver->lock);
    pthread_cond_signal(&driver->unparked);
    pthread_mutex_unlock(&driver->lock);
    pthread_join(driver->thread, NULL);
    driver->ended_ns = ucxnb_now_ns();
    driver->running = 0;
    close_descriptors(driver);
    pthread_cond_destroy(&driver->woken);
    pthread_cond_destroy(&driver->unparked);
    pthread_mutex_destroy(&driver->lock);
}

void ucxnb_driver_abandon(ucxnb_driver_t *driver)
{
    if (driver->running) {
        driver->running = 0;
        close_descriptors(driver);
    }
}

int ucxnb_look_soon(ucxnb_driver_t *driver, ucxnb_ready_t ready, void *arg, int64_t patience_ns)
{
    int result = ready(arg);
    int64_t deadline_ns = 0;
    unsigned steps = 0;

    while (result == 0) {
        if (ucxnb_progress(driver) != 0) {
            result = ready(arg);
        }
        if (++steps % STEPS_PER_LOOK == 0) {
            if (deadline_ns == 0) {
                deadline_ns = ucxnb_now_ns() + patience_ns;
            } else if (ucxnb_now_ns() >= deadline_ns) {
                break;
            }
        }
    }
    return result;
}
