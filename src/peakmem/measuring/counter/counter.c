/* The allocation counter: a preload library that keeps the exact account of the heap of one process.
 *
 *     cc -O2 -fPIC -shared -fvisibility=hidden -fno-builtin -fexceptions -ftls-model=initial-exec -pthread \
 *        -Wl,-z,now -o _counter.so counter.c -ldl
 *     LD_PRELOAD=./_counter.so PEAKMEM_COUNTER_LOG=/tmp/log program
 *
 * It stands before malloc and its family, before C++ new and delete, and before mmap, munmap and mremap; each goes on
 * to what the program would have had without it. It notes what was asked for, how the allocator rounded it, and the
 * address that asked. Anonymous private writable mappings made outside the C library are a second account, never part
 * of the first. The C library's own calls do not come through here: thread stacks, its arenas.
 *
 *     void peakmem_counter_read(long long out[8])  live, peak, usable live, usable peak, blocks, allocations so far,
 *                                                  mappings live, their peak; bytes but for the two counts
 *     void peakmem_counter_fullest(long long out[8])  the moment with most pages resident: anonymous ones, those of
 *                                                  files, the room of glibc's main arena and of blocks beside it,
 *                                                  free in the arena, usable bytes of blocks; then the first three now
 *     void peakmem_counter_reset(void)             peaks begin again at what is live
 *     void peakmem_counter_note(int id)            a note in the event log
 *
 * What it must not do: allocate, hold its lock while the loader works, wait for a thread that a fork left behind,
 * write to the log of another process, change errno, or let a program fail that would have gone on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__linux__) || !defined(__GLIBC__) || !defined(__LP64__)
#error "the allocation counter is written for 64-bit Linux with glibc"
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

#define EXPORT __attribute__((visibility("default")))
#define CALLER ((uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)))
#define RARE(x) __builtin_expect(!!(x), 0)
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)

static __thread int inside;    /* this thread holds the lock: a signal handler that allocates must not wait for it */
static __thread int resolving; /* this thread asks the loader for the next allocator */
static __thread int rescuing;  /* this thread looks for an operator new that throws: the loader may need a few bytes */
static __thread int thread_id;

/* ---------------------------------------------------------------------------------------------------------------- */
/* What comes next */

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void (*free)(void *);
    size_t (*usable)(void *);
} next;

static int state; /* 0 nothing yet, 1 a thread asks the loader, 2 ready */
static size_t page_bytes = 4096;

/* Blocks for the loader while it looks the next allocator up, and when it must work without memory. They are not
 * counted and never given back; their header is like one of glibc, so that malloc_usable_size holds. */
static _Alignas(64) char boot[1 << 16];
static size_t boot_used;

static int is_boot(const void *p) { return (const char *)p >= boot && (const char *)p < boot + sizeof boot; }

static size_t boot_usable(const void *p) { return (((const size_t *)p)[-1] & ~(size_t)15) - 16; }

static void *boot_take(size_t alignment, size_t n) {
    if (alignment < 16) alignment = 16;
    size_t from = LOAD(boot_used), at, to;
    do {
        at = ((uintptr_t)boot + from + 16 + alignment - 1) / alignment * alignment - (uintptr_t)boot;
        if (n > sizeof boot || at > sizeof boot || sizeof boot - at < n) {
            errno = ENOMEM;
            return NULL;
        }
        to = at + (n + 15) / 16 * 16;
    } while (!__atomic_compare_exchange_n(&boot_used, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    ((size_t *)(boot + at))[-1] = ((n + 15) / 16 * 16 + 16) | 1;
    return boot + at;
}

static void *raw_map(size_t n) {
    int error = errno;
    void *p = (void *)syscall(SYS_mmap, NULL, n, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, (off_t)0);
    errno = error;
    return p == MAP_FAILED ? NULL : p;
}

static void raw_unmap(void *p, size_t n) {
    int error = errno;
    syscall(SYS_munmap, p, n);
    errno = error;
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* The lock, and whose account this is. The page is emptied in a child however it was forked: the lock is then free,
 * and `owner` says that the account belongs to another process. */

struct gate {
    int lock;  /* 0 free, 1 held, 2 held and waited for */
    int owner; /* 1 the process that began, 2 its child after fork(), 0 a child without fork()'s handlers */
};
static struct gate first_gate = {0, 1}, *gate = &first_gate;
static uint64_t lost; /* allocations or frees that could not be booked */

static void pause_a_moment(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void lock(void) {
    int *word = &gate->lock, seen = 0;
    if (__atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    for (int i = 0; i < 100; i++) {
        pause_a_moment();
        seen = 0;
        if (__atomic_load_n(word, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(word, &seen, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return;
    }
    int error = errno;
    while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE)) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 2, NULL);
    errno = error;
}

static void unlock(void) {
    if (__atomic_exchange_n(&gate->lock, 0, __ATOMIC_RELEASE) == 2) {
        int error = errno;
        syscall(SYS_futex, &gate->lock, FUTEX_WAKE_PRIVATE, 1);
        errno = error;
    }
}

static void leave(void) {
    unlock();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    inside = 0;
}

static int enter(void) {
    if (RARE(inside)) {
        __atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
        return 0;
    }
    inside = 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    lock();
    if (RARE(!gate->owner)) {
        leave();
        return 0;
    }
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* The event log: a header, then records of 32 bytes, in a file that is mapped and grows in steps. All of its space is
 * reserved on disk before it is written, so that a full disk ends the log and not the program. */

enum { BORN = 1, DIED = 2, MAPPED = 3, UNMAPPED = 4, NOTE = 5, RESET = 6, START = 7 };
enum { FULL = 1, LOST = 2 };

struct record {
    int64_t size;     /* bytes asked for, negative when given back; live bytes in a note; the peak so far at the start */
    uint64_t pointer; /* the block; a note's id; mappings' peak so far at the start */
    uint64_t caller;  /* the address that asked for the block; mapped bytes in a note */
    uint32_t thread;
    uint32_t kind;
};
struct head {
    char magic[8];
    uint32_t version, record_bytes;
    uint64_t count; /* of records that are whole */
    uint64_t flags;
    uint64_t lost;
    uint64_t pid;
    uint64_t page_bytes;
    uint64_t limit; /* of records */
};
_Static_assert(sizeof(struct record) == 32 && sizeof(struct head) == 64, "the layout that log.py reads");

static struct head *head;
static uint64_t room; /* records that the file has space for */
static char log_path[4096];
static dev_t log_device;
static ino_t log_inode;

static int64_t live, peak, usable_live, usable_peak, blocks, allocations, mapped, mapped_peak;

/* glibc's main arena lies between where the program break was at first and where it is now, below all mappings.
 * Whenever a large block comes or goes the kernel is asked what is resident, and the account of the moment with the
 * most is kept: a block that was asked for is not resident before it is written to. */
enum { LARGE = 128 << 10, STRIDE = 1 << 20 };

struct moment {
    int64_t resident;   /* anonymous pages, without the counter's own table */
    int64_t files;      /* resident pages of files, without the counter's own log */
    int64_t room;       /* of the arena and of blocks beside it */
    int64_t arena_free; /* of it, free in the arena; a header stands before each block */
    int64_t blocks;     /* of it, handed out */
};
static struct moment fullest;
static uintptr_t arena_from;
static int64_t arena_live, arena_blocks, looked_at;
static size_t own_bytes;

static struct moment look(void) {
    char text[96];
    int64_t room = (int64_t)((uintptr_t)sbrk(0) - arena_from), pages[3] = {0};
    struct moment now = {0, 0, room + usable_live - arena_live, room - arena_live - arena_blocks * (int64_t)sizeof(size_t),
                         usable_live};
    int error = errno;
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC), n = 0;
    if (fd >= 0) {
        n = syscall(SYS_read, fd, text, sizeof text);
        syscall(SYS_close, fd);
    }
    for (long i = 0, field = 0; i < n && field < 3; i++) {
        if (text[i] >= '0' && text[i] <= '9') pages[field] = pages[field] * 10 + text[i] - '0';
        else field++;
    }
    errno = error;
    now.resident = (pages[1] - pages[2]) * (int64_t)page_bytes; /* size, resident, of it with a file behind */
    now.files = pages[2] * (int64_t)page_bytes;
    if (now.resident) now.resident -= (int64_t)own_bytes;
    if (now.files && head) now.files -= (int64_t)(sizeof *head + head->count * sizeof(struct record));
    if (now.resident + now.files > fullest.resident + fullest.files) fullest = now;
    looked_at = now.room;
    return now;
}

/* Space for records up to `wanted` in file `fd`; 0 where there is none. */
static int reserve(int fd, uint64_t wanted) {
    off_t from = sizeof(struct head) + room * sizeof(struct record);
    off_t to = sizeof(struct head) + wanted * sizeof(struct record);
    int done;
    do done = fallocate(fd, 0, from, to - from);
    while (done && errno == EINTR);
    if (done && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        static const char nothing[4096];
        for (; from < to;) {
            ssize_t n = pwrite(fd, nothing, to - from < 4096 ? to - from : 4096, from);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return 0;
            from += n;
        }
        done = 0;
    }
    return !done;
}

static int log_grow(void) {
    int error = errno, good = 0;
    uint64_t wanted = room < (1 << 20) ? room * 2 : room + (1 << 20);
    if (wanted > head->limit) wanted = head->limit;
    if (wanted > room) {
        /* opened by name each time: the program may have closed any descriptor, and given its number to another file */
        int fd = open(log_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        struct stat now;
        if (fd >= 0) {
            if (!fstat(fd, &now) && now.st_dev == log_device && now.st_ino == log_inode && reserve(fd, wanted)) {
                room = wanted;
                good = 1;
            }
            close(fd);
        }
    }
    if (!good) head->flags |= FULL;
    errno = error;
    return good;
}

static void put(uint32_t kind, int64_t size, uint64_t pointer, uint64_t caller) {
    if (!head || gate->owner != 1) return;
    uint64_t i = head->count;
    if (RARE(head->flags & FULL) || RARE(i >= room && !log_grow())) return;
    if (RARE(!thread_id)) thread_id = (int)syscall(SYS_gettid);
    struct record *r = (struct record *)(head + 1) + i;
    r->size = size;
    r->pointer = pointer;
    r->caller = caller;
    r->thread = (uint32_t)thread_id;
    r->kind = kind;
    STORE(head->count, i + 1);
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* The table of live blocks: open addressing, at most two thirds full, grows by doubling */

struct block {
    uintptr_t pointer; /* 0: free place */
    size_t size;
    uint64_t origin; /* the caller in the upper 48 bits, below it usable - size, ASK where that is more */
};
enum { ASK = 0xffff };

static struct block *table;
static size_t table_size, table_used;
static int table_shift;

static size_t place_of(uintptr_t p) { return (size_t)(((uint64_t)p >> 4) * 0x9E3779B97F4A7C15ull >> table_shift); }

static struct block *find(uintptr_t p) { /* the block or the free place where it would stand */
    size_t i = place_of(p);
    while (table[i].pointer && table[i].pointer != p) i = (i + 1) & (table_size - 1);
    return &table[i];
}

static int table_grow(void) {
    struct block *old = table;
    size_t old_size = table_size, size = old ? 2 * old_size : 1 << 14;
    struct block *new = raw_map(size * sizeof *new);
    if (!new) return 0;
    table = new;
    table_size = size;
    own_bytes = size * sizeof *new;
    table_shift = 64 - __builtin_ctzll(size);
    for (size_t i = 0; i < old_size; i++)
        if (old[i].pointer) *find(old[i].pointer) = old[i];
    if (old) raw_unmap(old, old_size * sizeof *old);
    return 1;
}

static int insert(const struct block *b) {
    if (RARE(table_used >= table_size / 3 * 2) && !table_grow() && table_used >= table_size / 8 * 7) {
        lost++;
        return 0;
    }
    *find(b->pointer) = *b;
    table_used++;
    return 1;
}

static void erase(struct block *b) { /* and close the gap, so that no search ends too early */
    size_t i = b - table, mask = table_size - 1, j = i;
    for (;;) {
        j = (j + 1) & mask;
        if (!table[j].pointer) break;
        size_t home = place_of(table[j].pointer);
        if (((j - home) & mask) >= ((j - i) & mask)) {
            table[i] = table[j];
            i = j;
        }
    }
    table[i].pointer = 0;
    table_used--;
}

static size_t usable_of(const struct block *b) {
    size_t slack = b->origin & 0xffff;
    return slack == ASK ? next.usable((void *)b->pointer) : b->size + slack;
}

static void book_death(const struct block *b, size_t usable) {
    if (RARE(usable >= LARGE)) look(); /* while it is full */
    live -= b->size;
    usable_live -= usable;
    blocks--;
    if (b->pointer < (uintptr_t)sbrk(0)) {
        arena_live -= usable;
        arena_blocks--;
    }
    put(DIED, -(int64_t)b->size, b->pointer, b->origin >> 16);
}

static void book_birth(void *p, size_t n, size_t usable, uintptr_t caller) {
    size_t slack = usable - n;
    struct block b = {(uintptr_t)p, n, (uint64_t)caller << 16 | (slack < ASK ? slack : ASK)};
    struct block *stale = find(b.pointer);
    if (RARE(stale->pointer)) { /* its end was not seen */
        book_death(stale, usable_of(stale));
        erase(stale);
    }
    if (!insert(&b)) return;
    live += n;
    usable_live += usable;
    blocks++;
    allocations++;
    put(BORN, (int64_t)n, b.pointer, b.origin >> 16);
    if (live > peak) peak = live;
    if (usable_live > usable_peak) usable_peak = usable_live;
    uintptr_t top = (uintptr_t)sbrk(0);
    if (b.pointer < top) {
        arena_live += usable;
        arena_blocks++;
    }
    if (RARE(n >= LARGE) || (int64_t)(top - arena_from) + usable_live - arena_live > looked_at + STRIDE) look();
}

static void born(void *p, size_t n, uintptr_t caller) {
    size_t usable = next.usable(p);
    if (!enter()) return;
    book_birth(p, n, usable, caller);
    leave();
}

static void died(void *p) { /* before the block is given back: then its address may be another's at once */
    if (!enter()) return;
    struct block *b = find((uintptr_t)p);
    if (b->pointer) {
        book_death(b, usable_of(b));
        erase(b);
    }
    leave();
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* Mappings: spans without overlap, sorted; the lock is held over the system call, so the order is the kernel's */

struct span {
    uintptr_t from, to, caller;
};
static struct span *spans;
static size_t spans_used, spans_size;

static size_t first_span(uintptr_t after) { /* the first that ends after this address */
    size_t low = 0, high = spans_used;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (spans[middle].to > after) high = middle;
        else low = middle + 1;
    }
    return low;
}

static int span_insert(size_t i, struct span s) {
    if (spans_used == spans_size) {
        size_t size = spans_size ? 2 * spans_size : 1 << 10;
        struct span *new = raw_map(size * sizeof *new);
        if (!new) {
            lost++;
            return 0;
        }
        if (spans) {
            memcpy(new, spans, spans_used * sizeof *new);
            raw_unmap(spans, spans_size * sizeof *new);
        }
        spans = new;
        spans_size = size;
    }
    memmove(spans + i + 1, spans + i, (spans_used - i) * sizeof *spans);
    spans[i] = s;
    spans_used++;
    return 1;
}

static void book_map(uintptr_t from, uintptr_t to, uintptr_t caller) {
    if (!span_insert(first_span(from), (struct span){from, to, caller})) return;
    mapped += to - from;
    put(MAPPED, (int64_t)(to - from), from, caller);
    if (mapped > mapped_peak) mapped_peak = mapped;
}

static uintptr_t book_unmap(uintptr_t from, uintptr_t to) { /* who asked for the first bytes of it, 0: not ours */
    uintptr_t caller = 0;
    size_t i = first_span(from), end;
    for (end = i; end < spans_used && spans[end].from < to;) {
        struct span s = spans[end];
        uintptr_t a = s.from > from ? s.from : from, b = s.to < to ? s.to : to;
        if (!caller) caller = s.caller;
        mapped -= b - a;
        put(UNMAPPED, -(int64_t)(b - a), a, s.caller);
        if (s.from < a && b < s.to) { /* cut in two */
            spans[end].to = a;
            if (!span_insert(end + 1, (struct span){b, s.to, s.caller})) {
                mapped -= s.to - b;
                put(UNMAPPED, -(int64_t)(s.to - b), b, s.caller);
            }
            return caller;
        }
        if (s.from < a) {
            spans[end].to = a;
            i = ++end;
        } else if (b < s.to) {
            spans[end].from = b;
            break;
        } else
            end++;
    }
    if (end > i) {
        memmove(spans + i, spans + end, (spans_used - end) * sizeof *spans);
        spans_used -= end - i;
    }
    return caller;
}

static uintptr_t whole(size_t n) { return (n + page_bytes - 1) & ~(page_bytes - 1); }

/* ---------------------------------------------------------------------------------------------------------------- */
/* Beginning, and fork */

static void *look_up(const char *name) { return dlsym(RTLD_NEXT, name); }

static int wake_up(void) { /* 0 when this very thread is on the way: then there is only `boot` */
    if (resolving) return 0;
    int nobody = 0;
    if (!__atomic_compare_exchange_n(&state, &nobody, 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        while (LOAD(state) != 2) sched_yield();
        return 1;
    }
    int error = errno;
    resolving = 1;
    next.malloc = look_up("malloc");
    next.calloc = look_up("calloc");
    next.realloc = look_up("realloc");
    next.memalign = look_up("memalign");
    next.aligned_alloc = look_up("aligned_alloc");
    next.posix_memalign = look_up("posix_memalign");
    next.valloc = look_up("valloc");
    next.pvalloc = look_up("pvalloc");
    next.free = look_up("free");
    next.usable = look_up("malloc_usable_size");
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    struct gate *page = raw_map(page_bytes);
    if (page) {
        *page = first_gate;
        madvise(page, page_bytes, MADV_WIPEONFORK);
        gate = page;
    }
    resolving = 0;
    arena_from = (uintptr_t)sbrk(0);
    if (!table_grow()) gate->owner = 0; /* not even this: then nothing is counted */
    errno = error;
    STORE(state, 2);
    return 1;
}

static inline int ready(void) { return __builtin_expect(LOAD(state) == 2, 1) || wake_up(); }

static __thread int forked_inside; /* a signal handler forks while its thread holds the lock */

static void before_fork(void) {
    forked_inside = inside;
    if (forked_inside) return;
    inside = 1;
    lock();
}

static void after_fork(void) {
    if (!forked_inside) leave();
}

static void in_child(void) { /* its account goes on for itself, the log is its parent's */
    int counts = table != NULL;
    gate->lock = 0;
    gate->owner = counts ? 2 : 0;
    head = NULL;
    thread_id = 0;
    inside = forked_inside;
}

static void open_log(const char *path) {
    unsigned long long limit = 512ull << 20;
    const char *text = getenv("PEAKMEM_COUNTER_LOG_MAX");
    if (text && *text) limit = strtoull(text, NULL, 10);
    struct rlimit largest;
    if (!getrlimit(RLIMIT_FSIZE, &largest) && largest.rlim_cur < limit) limit = largest.rlim_cur;
    if (strlen(path) >= sizeof log_path || limit < sizeof(struct head) + sizeof(struct record)) return;
    strcpy(log_path, path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        /* One that is there belongs to the process that made it, of which this one may be a child. It is begun anew
         * only when this very process made it, before exec: a launcher that became the program. */
        struct head was;
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0) return;
        if (pread(fd, &was, sizeof was, 0) != sizeof was || memcmp(was.magic, "PEAKMEM", 8) ||
            was.pid != (uint64_t)getpid() || ftruncate(fd, 0)) {
            close(fd);
            return;
        }
    }
    struct stat made;
    uint64_t records = (limit - sizeof(struct head)) / sizeof(struct record);
    uint64_t at_first = records < (1 << 14) ? records : 1 << 14;
    if (!fstat(fd, &made) && !ftruncate(fd, sizeof(struct head)) && reserve(fd, at_first)) {
        log_device = made.st_dev;
        log_inode = made.st_ino;
        size_t length = sizeof(struct head) + records * sizeof(struct record);
        void *p = (void *)syscall(SYS_mmap, NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)0);
        if (p != MAP_FAILED) {
            madvise(p, length, MADV_DONTFORK);
            struct head *h = p;
            h->version = 1;
            h->record_bytes = sizeof(struct record);
            h->pid = (uint64_t)getpid();
            h->page_bytes = page_bytes;
            h->limit = records;
            memcpy(h->magic, "PEAKMEM", 8);
            room = at_first;
            head = h;
        }
    }
    if (!head) unlink(path); /* the disk is full, or there is no address space */
    close(fd);
}

__attribute__((constructor(101))) static void begin(void) {
    if (!ready()) return;
    int error = errno;
    pthread_atfork(before_fork, after_fork, in_child);
    const char *path = getenv("PEAKMEM_COUNTER_LOG");
    if (path && *path && enter()) {
        open_log(path);
        /* what the loader and libc asked for before */
        for (size_t i = 0; i < table_size; i++)
            if (table[i].pointer) put(BORN, (int64_t)table[i].size, table[i].pointer, table[i].origin >> 16);
        for (size_t i = 0; i < spans_used; i++)
            put(MAPPED, (int64_t)(spans[i].to - spans[i].from), spans[i].from, spans[i].caller);
        put(START, peak, mapped_peak, (uint64_t)allocations);
        leave();
    }
    errno = error;
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* malloc and its family */

static inline void *counted(void *p, size_t n, uintptr_t caller) {
    if (p) born(p, n, caller);
    else if (RARE(rescuing)) p = boot_take(16, n);
    return p;
}

EXPORT void *malloc(size_t n) {
    if (RARE(!ready())) return boot_take(16, n);
    return counted(next.malloc(n), n, CALLER);
}

EXPORT void *calloc(size_t count, size_t each) {
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) {
        errno = ENOMEM;
        return NULL;
    }
    if (RARE(!ready())) return boot_take(16, n); /* never given back, so still zero */
    return counted(next.calloc(count, each), n, CALLER);
}

static void *resize(void *old, size_t n, uintptr_t caller) {
    if (RARE(!ready()) || RARE(is_boot(old))) {
        void *p = resolving ? boot_take(16, n) : counted(next.malloc(n), n, caller);
        if (p && old && is_boot(old)) {
            size_t had = boot_usable(old);
            memcpy(p, old, had < n ? had : n);
        }
        return p;
    }
    if (!old) return counted(next.realloc(NULL, n), n, caller);
    /* The old block leaves the table before its address can become another's, and the account only when the new one
     * is there: in between it is still live. */
    struct block was = {0, 0, 0};
    size_t was_usable = 0;
    if (enter()) {
        struct block *b = find((uintptr_t)old);
        if (b->pointer) {
            was = *b;
            was_usable = usable_of(b);
            erase(b);
        }
        leave();
    }
    void *p = next.realloc(old, n);
    size_t usable = p ? next.usable(p) : 0;
    if (!enter()) return p;
    if (!p && n) { /* refused: the old block stays */
        if (was.pointer) insert(&was);
    } else {
        if (was.pointer) book_death(&was, was_usable);
        if (p) book_birth(p, n, usable, caller);
    }
    leave();
    return p;
}

EXPORT void *realloc(void *old, size_t n) { return resize(old, n, CALLER); }

EXPORT void *reallocarray(void *old, size_t count, size_t each) {
    size_t n;
    if (__builtin_mul_overflow(count, each, &n)) {
        errno = ENOMEM;
        return NULL;
    }
    return resize(old, n, CALLER);
}

EXPORT void *memalign(size_t alignment, size_t n) {
    if (RARE(!ready())) return boot_take(alignment, n);
    return counted(next.memalign(alignment, n), n, CALLER);
}

EXPORT void *aligned_alloc(size_t alignment, size_t n) {
    if (RARE(!ready())) return boot_take(alignment, n);
    return counted(next.aligned_alloc(alignment, n), n, CALLER);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t n) {
    if (RARE(!ready())) return (*out = boot_take(alignment, n)) ? 0 : ENOMEM;
    int fault = next.posix_memalign(out, alignment, n);
    if (!fault) born(*out, n, CALLER);
    return fault;
}

EXPORT void *valloc(size_t n) {
    if (RARE(!ready())) return boot_take(page_bytes, n);
    return counted(next.valloc(n), n, CALLER);
}

EXPORT void *pvalloc(size_t n) {
    if (RARE(!ready())) return boot_take(page_bytes, n);
    return counted(next.pvalloc(n), n, CALLER);
}

static inline void give_back(void *p) {
    if (!p || RARE(is_boot(p)) || RARE(!ready())) return;
    int error = errno;
    died(p);
    next.free(p);
    errno = error;
}

EXPORT void free(void *p) { give_back(p); }
EXPORT void cfree(void *p) { give_back(p); }
EXPORT void free_sized(void *p, size_t n) { (void)n, give_back(p); }
EXPORT void free_aligned_sized(void *p, size_t a, size_t n) { (void)a, (void)n, give_back(p); }

/* ---------------------------------------------------------------------------------------------------------------- */
/* C++ new and delete, as libstdc++ and libc++ have them, on malloc. They stand here so that the caller is known, not
 * the C++ library. Where malloc refuses, the operator that the caller would have had takes over: it knows the new
 * handler and how to throw. */

static void *operator_of(const char *name, uintptr_t caller) {
    rescuing = 1;
    void *found = dlsym(RTLD_NEXT, name);
    Dl_info where;
    if (!found && dladdr((void *)caller, &where) && where.dli_fname) { /* loaded by dlopen: known to its callers only */
        void *object = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        if (object) found = dlsym(object, name); /* the handle is kept: closing might unload what we call */
    }
    static const char *const usual[] = {"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
    for (int i = 0; !found && i < 3; i++) {
        void *object = dlopen(usual[i], RTLD_LAZY | RTLD_NOLOAD);
        if (object) found = dlsym(object, name);
    }
    dlerror(); /* what we asked in vain is not for the program to hear of */
    rescuing = 0;
    return found;
}

static void *new_plain(size_t n, uintptr_t caller) { return counted(next.malloc(n ? n : 1), n ? n : 1, caller); }

static void *new_aligned(size_t n, size_t alignment, uintptr_t caller) {
    if (!alignment || alignment & (alignment - 1)) return NULL; /* the real one says what that is */
    if (!n) n = 1;
    size_t rounded = (n + alignment - 1) & ~(alignment - 1); /* as libstdc++ asks aligned_alloc */
    return rounded < n ? NULL : counted(next.aligned_alloc(alignment, rounded), rounded, caller);
}

#define NEW(name, take, parameters, types, arguments, missing)                                                         \
    EXPORT void *name parameters {                                                                                     \
        uintptr_t caller = CALLER;                                                                                     \
        if (RARE(!ready())) abort(); /* the loader is not written in C++ */                                            \
        void *p = take;                                                                                                \
        if (!RARE(!p)) return p;                                                                                       \
        void *(*real) types = (void *(*)types)operator_of(#name, caller);                                              \
        if (!real) missing;                                                                                            \
        return real arguments;                                                                                         \
    }

NEW(_Znwm, new_plain(n, caller), (size_t n), (size_t), (n), abort())
NEW(_Znam, new_plain(n, caller), (size_t n), (size_t), (n), abort())
NEW(_ZnwmRKSt9nothrow_t, new_plain(n, caller), (size_t n, void *t), (size_t, void *), (n, t), return NULL)
NEW(_ZnamRKSt9nothrow_t, new_plain(n, caller), (size_t n, void *t), (size_t, void *), (n, t), return NULL)
NEW(_ZnwmSt11align_val_t, new_aligned(n, a, caller), (size_t n, size_t a), (size_t, size_t), (n, a), abort())
NEW(_ZnamSt11align_val_t, new_aligned(n, a, caller), (size_t n, size_t a), (size_t, size_t), (n, a), abort())
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, new_aligned(n, a, caller), (size_t n, size_t a, void *t),
    (size_t, size_t, void *), (n, a, t), return NULL)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, new_aligned(n, a, caller), (size_t n, size_t a, void *t),
    (size_t, size_t, void *), (n, a, t), return NULL)

EXPORT void _ZdlPv(void *p) { give_back(p); }
EXPORT void _ZdaPv(void *p) { give_back(p); }
EXPORT void _ZdlPvm(void *p, size_t n) { (void)n, give_back(p); }
EXPORT void _ZdaPvm(void *p, size_t n) { (void)n, give_back(p); }
EXPORT void _ZdlPvRKSt9nothrow_t(void *p, void *t) { (void)t, give_back(p); }
EXPORT void _ZdaPvRKSt9nothrow_t(void *p, void *t) { (void)t, give_back(p); }
EXPORT void _ZdlPvSt11align_val_t(void *p, size_t a) { (void)a, give_back(p); }
EXPORT void _ZdaPvSt11align_val_t(void *p, size_t a) { (void)a, give_back(p); }
EXPORT void _ZdlPvmSt11align_val_t(void *p, size_t n, size_t a) { (void)n, (void)a, give_back(p); }
EXPORT void _ZdaPvmSt11align_val_t(void *p, size_t n, size_t a) { (void)n, (void)a, give_back(p); }
EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t a, void *t) { (void)a, (void)t, give_back(p); }
EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t a, void *t) { (void)a, (void)t, give_back(p); }

/* ---------------------------------------------------------------------------------------------------------------- */
/* mmap and its family */

static void *map(void *at, size_t n, int protection, int flags, int fd, off_t offset, uintptr_t caller) {
    int booked = ready() && enter();
    void *p = (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
    if (!booked) return p;
    if (p != MAP_FAILED) {
        uintptr_t from = (uintptr_t)p, to = from + whole(n);
        if (flags & MAP_FIXED) book_unmap(from, to); /* it took the place of what was there */
        if (flags & MAP_ANONYMOUS && (flags & MAP_TYPE) == MAP_PRIVATE && protection & PROT_WRITE)
            book_map(from, to, caller);
    }
    leave();
    return p;
}

EXPORT void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    return map(at, n, protection, flags, fd, offset, CALLER);
}

EXPORT void *mmap64(void *at, size_t n, int protection, int flags, int fd, off64_t offset) {
    return map(at, n, protection, flags, fd, offset, CALLER);
}

EXPORT int munmap(void *p, size_t n) {
    int booked = ready() && enter();
    int fault = (int)syscall(SYS_munmap, p, n);
    if (!booked) return fault;
    if (!fault) book_unmap((uintptr_t)p, (uintptr_t)p + whole(n));
    leave();
    return fault;
}

EXPORT void *mremap(void *old, size_t old_size, size_t n, int flags, ...) {
    void *at = NULL;
    if (flags & ~MREMAP_MAYMOVE) {
        va_list more;
        va_start(more, flags);
        at = va_arg(more, void *);
        va_end(more);
    }
    int booked = ready() && enter();
    void *p = (void *)syscall(SYS_mremap, old, old_size, n, flags, at);
    if (!booked) return p;
    if (p != MAP_FAILED) {
        uintptr_t caller = 0, from = (uintptr_t)old, to = from + whole(old_size);
        if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) { /* DONTUNMAP: the old place stays */
            size_t i = first_span(from);
            if (i < spans_used && spans[i].from < to) caller = spans[i].caller;
        } else
            caller = book_unmap(from, to);
        if (flags & ~MREMAP_MAYMOVE) book_unmap((uintptr_t)p, (uintptr_t)p + whole(n));
        if (caller) book_map((uintptr_t)p, (uintptr_t)p + whole(n), caller);
    }
    leave();
    return p;
}

/* ---------------------------------------------------------------------------------------------------------------- */
/* What the measured process asks */

static void say_lost(void) {
    if (head && lost && gate->owner == 1) {
        head->lost = lost;
        head->flags |= LOST;
    }
}

EXPORT void peakmem_counter_read(long long out[8]) {
    memset(out, 0, 8 * sizeof *out);
    if (!ready() || !enter()) return;
    const int64_t all[8] = {live, peak, usable_live, usable_peak, blocks, allocations, mapped, mapped_peak};
    for (int i = 0; i < 8; i++) out[i] = all[i];
    say_lost();
    leave();
}

EXPORT void peakmem_counter_fullest(long long out[8]) {
    memset(out, 0, 8 * sizeof *out);
    if (!ready() || !enter()) return;
    struct moment now = look();
    const int64_t all[8] = {fullest.resident, fullest.files, fullest.room, fullest.arena_free,
                            fullest.blocks,   now.resident,  now.files,    now.room};
    for (int i = 0; i < 8; i++) out[i] = all[i];
    leave();
}

EXPORT void peakmem_counter_reset(void) {
    if (!ready() || !enter()) return;
    peak = live;
    usable_peak = usable_live;
    fullest.resident = fullest.files = 0;
    look();
    mapped_peak = mapped;
    put(RESET, live, 0, (uint64_t)mapped);
    leave();
}

EXPORT void peakmem_counter_note(int id) {
    if (!ready() || !enter()) return;
    put(NOTE, live, (uint64_t)(int64_t)id, (uint64_t)mapped);
    say_lost();
    leave();
}
