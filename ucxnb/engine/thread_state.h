/* What the engine remembers about the calling thread. */
#ifndef UCXNB_THREAD_STATE_H
#define UCXNB_THREAD_STATE_H

typedef struct {
    int of_toolkit;   /* one of ucxnb's own, which ThreadMode.SINGLE does not count */
    int calls_inside; /* calls of any worker that it is inside of: above 1 within a signal handler */
} ucxnb_thread_t;

/* Its address is another one in every thread that is alive. */
static inline ucxnb_thread_t *ucxnb_thread(void)
{
    /* This model needs no call to find it; eight bytes fit into what every process keeps for that. */
    static _Thread_local ucxnb_thread_t thread __attribute__((tls_model("initial-exec")));

    return &thread;
}

#endif
