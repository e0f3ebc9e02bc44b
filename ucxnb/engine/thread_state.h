/* What the engine remembers about the calling thread. */
#ifndef UCXNB_THREAD_STATE_H
#define UCXNB_THREAD_STATE_H

/* Set in the threads of ucxnb itself, which ThreadMode.SINGLE does not count. */
static _Thread_local int ucxnb_toolkit_thread;

/* Calls of any worker that this thread is inside of: above 1 within a signal handler. */
static _Thread_local int ucxnb_calls_inside;

#endif
