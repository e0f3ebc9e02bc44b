/* Set in the threads of ucxnb itself, which ThreadMode.SINGLE does not count. */
#ifndef UCXNB_TOOLKIT_THREAD_H
#define UCXNB_TOOLKIT_THREAD_H

static _Thread_local int ucxnb_toolkit_thread;

#endif
