#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

/*
 * Preloaded behind libfaketime, so that it works for a program whose allocator is jemalloc.
 *
 * When it is loaded, libfaketime looks for functions of old C libraries. For each that is missing the loader
 * allocates an error message. The first allocation initializes jemalloc, which asks for the time while it holds
 * its lock, and so calls libfaketime, which looks for the next missing function: the loader allocates, and waits
 * for that lock for ever. Here they are. Nobody calls them.
 */
int __ftime(void) { return -1; }
int timer_gettime(timer_t timer, struct itimerspec *now) { return -1; }
int timer_settime(timer_t timer, int flags, const struct itimerspec *new, struct itimerspec *old) { return -1; }

/*
 * librdkafka waits by this one until a time of the wall clock, and libfaketime does not know it: the wait would end
 * by the system's clock. As with a real clock, the wait ends when the clock has come to that time, however often
 * the clock is set meanwhile. To glibc both kinds of condition are one.
 */
int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    const long slice = 20000000, second = 1000000000;
    for (;;) {
        struct timespec next;
        clock_gettime(CLOCK_REALTIME, &next);
        if (next.tv_sec > until->tv_sec || (next.tv_sec == until->tv_sec && next.tv_nsec >= until->tv_nsec))
            return thrd_timedout;
        next.tv_nsec += slice;
        next.tv_sec += next.tv_nsec / second;
        next.tv_nsec %= second;
        if (next.tv_sec > until->tv_sec || (next.tv_sec == until->tv_sec && next.tv_nsec > until->tv_nsec))
            next = *until;
        int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, &next);
        if (result != ETIMEDOUT)
            return result == 0 ? thrd_success : thrd_error;
    }
}
