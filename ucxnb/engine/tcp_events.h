/* UCX's TCP transport, kept from using an endpoint that it has freed.
 *
 * From one event that says a socket can be read and written it reads, then writes. What it reads
 * may be the peer's goodbye, and if its own side has been closed already, with bytes that the
 * socket had not taken yet, the goodbye frees the endpoint. So it gets two events instead, and the
 * second only if the socket is still there. For that the library's own entry for
 * ucs_event_set_wait() is replaced, in this process's memory.
 */
#ifndef UCXNB_TCP_EVENTS_H
#define UCXNB_TCP_EVENTS_H

/* `ucs`: the handle of libucs. Does nothing to a UCX whose sources have not been looked at. */
void ucxnb_mend_tcp_events(void *ucs, unsigned major, unsigned minor);

#endif
