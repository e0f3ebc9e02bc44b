#include "tcp_events.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucs/sys/compiler_def.h>
#include <ucs/sys/event_set.h>
#include <unistd.h>

#define WAIT "ucs_event_set_wait"

static __typeof__(ucs_event_set_wait) *wait_of_ucx;

/* ---- what the TCP transport gets ---- */

typedef struct {
    ucs_event_set_handler_t handler;
    void *arg;
    int put_off; /* a socket could be read and written */
} look_t;

static void read_before_write(void *socket, ucs_event_set_types_t events, void *arg)
{
    look_t *look = arg;

    if ((events & UCS_EVENT_SET_EVREAD) && (events & UCS_EVENT_SET_EVWRITE)) {
        look->put_off = 1;
        events &= ~UCS_EVENT_SET_EVWRITE;
    }
    look->handler(socket, events, look->arg);
}

static void write_only(void *socket, ucs_event_set_types_t events, void *arg)
{
    look_t *look = arg;

    if (events & UCS_EVENT_SET_EVWRITE) {
        look->handler(socket, events & ~UCS_EVENT_SET_EVREAD, look->arg);
    }
}

static ucs_status_t wait_one_by_one(ucs_sys_event_set_t *set, unsigned *count, int timeout_ms,
                                    ucs_event_set_handler_t handler, void *arg)
{
    look_t look = {handler, arg, 0};
    unsigned limit = *count;
    ucs_status_t status = wait_of_ucx(set, count, timeout_ms, read_before_write, &look);

    if (look.put_off && status == UCS_OK) {
        /* Sockets that were closed by what was read are not among these. */
        status = wait_of_ucx(set, &limit, 0, write_only, &look);
    }
    return status;
}

/* ---- how it gets it ---- */

typedef struct {
    ElfW(Addr) base;
    void **place; /* where the library keeps the address of what it calls */
    ElfW(Addr) relro, relro_end;
} search_t;

/* glibc has made these addresses absolute, on most machines. */
static const void *section(ElfW(Addr) base, ElfW(Addr) address)
{
    return (const void *)(address < base ? base + address : address);
}

static void **find_place(ElfW(Addr) base, const ElfW(Dyn) *entry)
{
    const ElfW(Rela) *tables[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;

    for (; entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_JMPREL:
            tables[0] = section(base, entry->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            sizes[0] = entry->d_un.d_val;
            break;
        case DT_RELA:
            tables[1] = section(base, entry->d_un.d_ptr);
            break;
        case DT_RELASZ:
            sizes[1] = entry->d_un.d_val;
            break;
        case DT_SYMTAB:
            symbols = section(base, entry->d_un.d_ptr);
            break;
        case DT_STRTAB:
            names = section(base, entry->d_un.d_ptr);
            break;
        }
    }
    if (symbols == NULL || names == NULL) {
        return NULL;
    }
    for (int table = 0; table < 2; table++) {
        for (size_t i = 0; tables[table] != NULL && i < sizes[table] / sizeof *tables[0]; i++) {
            const ElfW(Rela) *relocation = &tables[table][i];

            if (strcmp(names + symbols[ELF64_R_SYM(relocation->r_info)].st_name, WAIT) == 0) {
                return (void **)(base + relocation->r_offset);
            }
        }
    }
    return NULL;
}

static int search(struct dl_phdr_info *library, size_t size, void *arg)
{
    search_t *found = arg;

    (void)size;
    if (library->dlpi_addr != found->base) {
        return 0;
    }
    for (int i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &library->dlpi_phdr[i];

        if (part->p_type == PT_DYNAMIC) {
            found->place = find_place(found->base, (void *)(found->base + part->p_vaddr));
        } else if (part->p_type == PT_GNU_RELRO) {
            found->relro = found->base + part->p_vaddr;
            found->relro_end = found->relro + part->p_memsz;
        }
    }
    return 1;
}

static void replace(const search_t *found)
{
    uintptr_t address = (uintptr_t)found->place, page = sysconf(_SC_PAGESIZE);
    void *start = (void *)(address & -page);
    int read_only = address >= found->relro && address < (found->relro_end & -page);

    if (read_only && mprotect(start, page, PROT_READ | PROT_WRITE) != 0) {
        return;
    }
    atomic_store((void *_Atomic *)found->place, (void *)wait_one_by_one);
    if (read_only) {
        mprotect(start, page, PROT_READ);
    }
}

void ucxnb_mend_tcp_events(void *ucs, unsigned major, unsigned minor)
{
    search_t found = {0};
    struct link_map *map;
    void *uct;

    if (major != 1 || minor < 18 || minor > 22) {
        return;
    }
    uct = dlopen("libuct.so.0", RTLD_NOW | RTLD_NOLOAD);
    wait_of_ucx = (__typeof__(wait_of_ucx))dlsym(ucs, WAIT);
    if (uct == NULL || wait_of_ucx == NULL || dlinfo(uct, RTLD_DI_LINKMAP, &map) != 0) {
        return;
    }
    found.base = map->l_addr;
    dl_iterate_phdr(search, &found);
    if (found.place != NULL) {
        replace(&found);
    }
}
