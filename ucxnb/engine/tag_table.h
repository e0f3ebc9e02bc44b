/* Things with a tag, in order of age, and quickly found by their tag or a part of it.
 *
 * Entries are part of what they stand for, and are not owned by the table. Not locked: the caller is.
 */
#ifndef UCXNB_TAG_TABLE_H
#define UCXNB_TAG_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* With endpoint-scoped tags the high 24 bits of a wire tag name the receiver's endpoint. */
#define UCXNB_ID_SHIFT 40
#define UCXNB_USER_TAG_MASK (((uint64_t)1 << UCXNB_ID_SHIFT) - 1)

/* The lists that an entry is in: all of its table; those with the same hash of the whole tag; of the
 * user's tag, whoever sent it; of the endpoint, whatever its tag. */
enum { UCXNB_ALL, UCXNB_BY_TAG, UCXNB_BY_USER_TAG, UCXNB_BY_ENDPOINT, UCXNB_LISTS };

typedef struct ucxnb_entry {
    uint64_t tag;
    uint64_t age; /* what entered the engine earlier has the lower one */
    struct ucxnb_entry *older[UCXNB_LISTS], *newer[UCXNB_LISTS];
} ucxnb_entry_t;

typedef struct {
    ucxnb_entry_t *oldest, *newest;
} ucxnb_list_t;

typedef struct {
    ucxnb_list_t all;
    ucxnb_list_t *buckets; /* those of each hash in turn */
    size_t bucket_count;   /* of each hash: 0, or a power of two */
    size_t count;
    int whole_tags_only; /* set by the owner: nothing is sought by a part of its tag */
} ucxnb_tag_table_t;

/* Insert an entry, whose tag and age are set, by its age. False if there is no memory. */
int ucxnb_table_insert(ucxnb_tag_table_t *table, ucxnb_entry_t *entry);

/* The oldest entry whose tag equals `tag` in the bits of `mask`, or NULL. */
ucxnb_entry_t *ucxnb_table_find(const ucxnb_tag_table_t *table, uint64_t tag, uint64_t mask);

void ucxnb_table_remove(ucxnb_tag_table_t *table, ucxnb_entry_t *entry);

/* Free the table, which must be empty. */
void ucxnb_table_free(ucxnb_tag_table_t *table);

#endif
