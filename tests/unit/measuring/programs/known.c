/* A program of known allocations for the counter's tests: prints differences of its account, one case a line.
 *
 *     known CASE [ARGUMENT]
 *
 * The expected numbers stand in test_counter.py, worked by hand; nothing here computes them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void (*counter_read)(long long *);
static void (*counter_reset)(void);
static void (*counter_note)(int);
static long long before[8];
static char line[4096];
static volatile size_t most = (size_t)-1;
static int filled;

/* The line is printed at the end: stdio allocates. */
static void say(const char *name) {
    long long now[8];
    counter_read(now);
    filled += snprintf(line + filled, sizeof line - filled, "%s live %lld peak %lld blocks %lld calls %lld mapped %lld mapped_peak %lld\n",
                       name, now[0] - before[0], now[1] - before[0], now[4] - before[4], now[5] - before[5],
                       now[6] - before[6], now[7] - before[6]);
}
static void start(void) {
    counter_reset();
    counter_read(before);
}
static void *volatile keep[64];

static void family(void) {
    start();
    keep[0] = malloc(1000);
    keep[1] = calloc(10, 33);
    keep[2] = memalign(256, 77);
    keep[3] = aligned_alloc(64, 128);
    void *p;
    if (posix_memalign(&p, 4096, 5)) exit(1);
    keep[4] = p;
    keep[5] = valloc(3);
    keep[6] = pvalloc(1);
    keep[7] = reallocarray(NULL, 7, 11);
    keep[8] = malloc(0);
    keep[9] = strdup("four");
    say("all");
    for (int i = 0; i < 10; i++) free(keep[i]);
    free(NULL);
    say("freed");
}

static void chain(void) {
    start();
    char *p = realloc(NULL, 100);
    p = realloc(p, 1000);
    p = realloc(p, 1 << 20);
    p = realloc(p, 50);
    say("shrunk");
    void *volatile same = p;
    errno = 0;
    size_t huge = (size_t)PTRDIFF_MAX;
    if (realloc(same, huge) != NULL || errno != ENOMEM) exit(1);
    if (reallocarray(same, most, 16) != NULL || errno != ENOMEM) exit(1);
    if (calloc(most, 16) != NULL || errno != ENOMEM) exit(1);
    if (malloc(huge) != NULL || errno != ENOMEM) exit(1);
    say("refused");
    p[49] = 1;
    errno = 1234;
    void *volatile zero = realloc(same, 0);
    if (zero) exit(1);
    say("zero");
    for (int i = 0; i < 100000; i++) free(malloc(i % 3000));
    say("churn");
    if (errno != 1234) exit(2);
}

static void mappings(void) {
    start();
    char *a = mmap(NULL, 10 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    void *reserved = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("ten");
    munmap(a + 3 * 4096, 2 * 4096);
    say("hole");
    munmap(a + 2 * 4096, 1);
    say("two");
    char *b = mremap(a + 5 * 4096, 5 * 4096, 20 * 4096, MREMAP_MAYMOVE);
    say("grown");
    munmap(b, 20 * 4096);
    if (mmap(a, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != a) exit(1);
    say("replaced");
    munmap(a, 4096 * 3);
    munmap(shared, 4096);
    munmap(reserved, 1 << 20);
    if (munmap((void *)1, 4096) != -1 || errno != EINVAL) exit(1);
    say("gone");
}

static void *volatile *many;
static void growth(long count) { /* in a mapping, so that the program's own table is not in the account */
    many = mmap(NULL, count * sizeof *many, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    start();
    for (long i = 0; i < count; i++) many[i] = malloc(16 + i % 7);
    say("full");
    for (long i = 0; i < count; i += 2) free(many[i]);
    say("half");
    for (long i = 1; i < count; i += 2) free(many[i]);
    say("empty");
}

static volatile int stop;
static void *worker(void *which) {
    unsigned seed = (unsigned)(uintptr_t)which;
    void *held[16] = {0};
    for (long i = 0; !stop && i < 200000; i++) {
        int k = rand_r(&seed) % 16;
        switch (rand_r(&seed) % 3) {
        case 0: free(held[k]), held[k] = malloc(rand_r(&seed) % 5000); break;
        case 1: held[k] = realloc(held[k], 1 + rand_r(&seed) % 5000); break;
        default: free(held[k]), held[k] = NULL;
        }
    }
    for (int k = 0; k < 16; k++) free(held[k]);
    return NULL;
}

static void threads(void) {
    pthread_t t[8];
    pthread_attr_t small; /* small stacks are all kept for the next threads, and their tables with them */
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 18);
    for (int round = 0; round < 2; round++) {
        if (round) start();
        for (long i = 0; i < 8; i++) pthread_create(&t[i], &small, worker, (void *)(i + 1));
        for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    }
    say("joined");
}

/* Children forked while others allocate; each allocates and leaves. fork(), a fork without libc's handlers, spawn. */
static void forks(int raw) {
    pthread_t t[4];
    int good = 0;
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, worker, (void *)(i + 1));
    for (int i = 0; i < 40; i++) {
        pid_t child;
        if (raw == 2) {
            char *words[] = {"true", NULL};
            if (posix_spawnp(&child, "true", NULL, NULL, words, environ)) exit(1);
        } else {
            child = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
            if (!child) {
                long long was[8], is[8];
                alarm(20);
                counter_read(was);
                /* after a raw fork malloc's own locks may be held by nobody: only the counter is asked then */
                void *volatile p = raw ? NULL : malloc(4321);
                counter_read(is);
                if (!raw && is[0] - was[0] != 4321) _exit(1);
                if (raw && is[0]) _exit(2);
                free(p);
                if (!raw) counter_note(77);
                munmap(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
                _exit(0);
            }
        }
        int status;
        waitpid(child, &status, 0);
        good += status == 0;
    }
    stop = 1;
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    filled = snprintf(line, sizeof line, "children %d\n", good);
}

static volatile long handled;
static void handler(int number) {
    (void)number;
    void *volatile p = malloc(10); /* not allowed, and done by programs */
    (void)p;
    handled++;
}
static void signals(void) { /* only counter calls are interrupted: malloc itself would hang with or without it */
    signal(SIGALRM, handler);
    ualarm(100, 100);
    long long numbers[8];
    while (handled < 2000) {
        counter_read(numbers);
        counter_reset();
    }
    ualarm(0, 0);
    filled = snprintf(line, sizeof line, "handled\n");
}

static void against_glibc(void) {
    long long a[8], b[8];
    free(malloc(10));
    struct mallinfo2 m = mallinfo2();
    counter_read(a);
    static void *p[20000];
    long mmapped = 0;
    for (int i = 0; i < 20000; i++) {
        size_t n = i % 500 ? (size_t)(i * 37 % 3000) : 200000 + (size_t)i * 3;
        p[i] = malloc(n);
        mmapped += (((size_t *)p[i])[-1] & 2) != 0;
    }
    struct mallinfo2 e = mallinfo2();
    counter_read(b);
    /* bytes of chunks, by glibc; usable bytes, blocks, by the counter; blocks with a mapping of their own */
    filled = snprintf(line, sizeof line, "%lld %lld %lld %ld\n",
                      (long long)(e.uordblks + e.hblkhd) - (long long)(m.uordblks + m.hblkhd), b[2] - a[2], b[4] - a[4], mmapped);
}

static void phases(void) {
    static void *p[4];
    p[0] = malloc(1 << 20);
    counter_note(1);
    counter_reset();
    p[1] = malloc(2 << 20);
    counter_note(3);
    p[2] = malloc(3 << 20);
    free(p[1]);
    counter_note(4);
    p[3] = malloc(1000);
    counter_note(2);
    say("end");
}

int main(int count, char **words) {
    counter_read = (void (*)(long long *))dlsym(RTLD_DEFAULT, "peakmem_counter_read");
    counter_reset = (void (*)(void))dlsym(RTLD_DEFAULT, "peakmem_counter_reset");
    counter_note = (void (*)(int))dlsym(RTLD_DEFAULT, "peakmem_counter_note");
    if (!counter_read || !counter_reset || !counter_note || count < 2) return 3;
    const char *which = words[1];
    if (!strcmp(which, "family")) family();
    else if (!strcmp(which, "chain")) chain();
    else if (!strcmp(which, "mappings")) mappings();
    else if (!strcmp(which, "growth")) growth(atol(words[2]));
    else if (!strcmp(which, "threads")) threads();
    else if (!strcmp(which, "forks")) forks(atoi(words[2]));
    else if (!strcmp(which, "signals")) signals();
    else if (!strcmp(which, "glibc")) against_glibc();
    else if (!strcmp(which, "phases")) phases();
    else return 3;
    if (write(1, line, filled) != filled) return 4;
    return 0;
}
