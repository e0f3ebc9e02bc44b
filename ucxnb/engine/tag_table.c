#include "tag_table.h"

#include <stdlib.h>

#define FIRST_BUCKET_COUNT 64

/* What of a tag decides its bucket. */
static const uint64_t key_masks[UCXNB_LISTS] = {0, UINT64_MAX, UCXNB_USER_TAG_MASK,
                                                ~UCXNB_USER_TAG_MASK};

static int list_count(const ucxnb_tag_table_t *table)
{
    return table->whole_tags_only ? UCXNB_BY_TAG + 1 : UCXNB_LISTS;
}

static ucxnb_list_t *bucket_of(const ucxnb_tag_table_t *table, int which, uint64_t tag)
{
    /* 2**64 over the golden ratio: mixes all bits up. */
    uint64_t hash = (tag & key_masks[which]) * 0x9E3779B97F4A7C15u;
    size_t bucket = (hash >> 32) & (table->bucket_count - 1);

    return &table->buckets[(which - UCXNB_BY_TAG) * table->bucket_count + bucket];
}

/* The oldest that is newer than the entry, or NULL. */
static ucxnb_entry_t *find_place(const ucxnb_list_t *list, int which, const ucxnb_entry_t *entry)
{
    ucxnb_entry_t *front = list->oldest, *back = list->newest;

    if (back == NULL || back->age < entry->age) {
        return NULL;
    }
    /* From both ends: what is inserted late belongs near one of them. */
    while (front->age < entry->age && back->age > entry->age) {
        front = front->newer[which];
        back = back->older[which];
    }
    return front->age > entry->age ? front : back->newer[which];
}

static void insert_into_list(ucxnb_list_t *list, int which, ucxnb_entry_t *entry)
{
    ucxnb_entry_t *newer = find_place(list, which, entry);
    ucxnb_entry_t *older = newer ? newer->older[which] : list->newest;

    entry->newer[which] = newer;
    entry->older[which] = older;
    *(older ? &older->newer[which] : &list->oldest) = entry;
    *(newer ? &newer->older[which] : &list->newest) = entry;
}

static void remove_from_list(ucxnb_list_t *list, int which, ucxnb_entry_t *entry)
{
    ucxnb_entry_t *newer = entry->newer[which], *older = entry->older[which];

    *(older ? &older->newer[which] : &list->oldest) = newer;
    *(newer ? &newer->older[which] : &list->newest) = older;
}

static void insert_into_buckets(ucxnb_tag_table_t *table, ucxnb_entry_t *entry)
{
    int which;

    for (which = UCXNB_BY_TAG; which < list_count(table); which++) {
        insert_into_list(bucket_of(table, which, entry->tag), which, entry);
    }
}

/* Failing to grow is no error while there are buckets at all. */
static int make_room(ucxnb_tag_table_t *table)
{
    size_t bucket_count = table->bucket_count ? table->bucket_count * 2 : FIRST_BUCKET_COUNT;
    ucxnb_list_t *buckets;
    ucxnb_entry_t *entry;

    if (table->count < table->bucket_count) {
        return 1;
    }
    buckets = calloc(bucket_count * (list_count(table) - 1), sizeof *buckets);
    if (buckets == NULL) {
        return table->bucket_count > 0;
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = bucket_count;
    for (entry = table->all.oldest; entry != NULL; entry = entry->newer[UCXNB_ALL]) {
        insert_into_buckets(table, entry);
    }
    return 1;
}

int ucxnb_table_insert(ucxnb_tag_table_t *table, ucxnb_entry_t *entry)
{
    if (!make_room(table)) {
        return 0;
    }
    insert_into_list(&table->all, UCXNB_ALL, entry);
    insert_into_buckets(table, entry);
    table->count++;
    return 1;
}

ucxnb_entry_t *ucxnb_table_find(const ucxnb_tag_table_t *table, uint64_t tag, uint64_t mask)
{
    int which = UCXNB_BY_TAG;
    ucxnb_entry_t *entry;

    if (table->count == 0) {
        return NULL;
    }
    /* The first list that all entries sought have in common. */
    while (which < list_count(table) && (key_masks[which] & ~mask) != 0) {
        which++;
    }
    which = which == list_count(table) ? UCXNB_ALL : which;
    entry = which == UCXNB_ALL ? table->all.oldest : bucket_of(table, which, tag)->oldest;
    while (entry != NULL && ((entry->tag ^ tag) & mask) != 0) {
        entry = entry->newer[which];
    }
    return entry;
}

void ucxnb_table_remove(ucxnb_tag_table_t *table, ucxnb_entry_t *entry)
{
    int which;

    remove_from_list(&table->all, UCXNB_ALL, entry);
    for (which = UCXNB_BY_TAG; which < list_count(table); which++) {
        remove_from_list(bucket_of(table, which, entry->tag), which, entry);
    }
    table->count--;
}

void ucxnb_table_free(ucxnb_tag_table_t *table)
{
    free(table->buckets);
    table->buckets = NULL;
    table->bucket_count = 0;
}
