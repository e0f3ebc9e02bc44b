#include "ucp_library.h"

#include "tcp_events.h"

#include <dlfcn.h>
#include <stddef.h>

ucxnb_ucp_t ucxnb_ucp;

const char *ucxnb_load_ucp(void)
{
    static int loaded;
    unsigned major, minor, release;
    void *ucp, *ucs;

    if (loaded) {
        return NULL; /* other workers' threads read the table */
    }
    ucp = dlopen("libucp.so.0", RTLD_NOW | RTLD_NOLOAD);
    ucs = dlopen("libucs.so.0", RTLD_NOW | RTLD_NOLOAD);
    if (ucp == NULL || ucs == NULL) {
        return "libucp.so.0 and libucs.so.0 are not loaded";
    }
#define UCXNB_LOOK_UP(name)                                                                       \
    ucxnb_ucp.name = (__typeof__(ucxnb_ucp.name))dlsym(ucp, #name);                               \
    if (ucxnb_ucp.name == NULL) {                                                                 \
        return "libucp.so.0 has no " #name;                                                       \
    }
    UCXNB_UCP_FUNCTIONS(UCXNB_LOOK_UP)
#undef UCXNB_LOOK_UP
    ucxnb_ucp.ucs_status_string =
            (__typeof__(ucxnb_ucp.ucs_status_string))dlsym(ucs, "ucs_status_string");
    if (ucxnb_ucp.ucs_status_string == NULL) {
        return "libucs.so.0 has no ucs_status_string";
    }
    ucxnb_ucp.ucp_get_version(&major, &minor, &release);
    ucxnb_mend_tcp_events(ucs, major, minor);
    loaded = 1;
    return NULL;
}
