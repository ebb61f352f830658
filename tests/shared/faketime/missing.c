/*
 * Preloaded behind libfaketime, so that it works for a program whose allocator is jemalloc.
 *
 * When it is loaded, libfaketime looks for functions of old C libraries. For each that is missing the loader
 * allocates an error message. The first allocation initializes jemalloc, which asks for the time while it holds
 * its lock, and so calls libfaketime, which looks for the next missing function: the loader allocates, and waits
 * for that lock for ever. Here they are. Nobody calls them.
 */
int __ftime(void) { return -1; }
int timer_gettime(void) { return -1; }
int timer_settime(void) { return -1; }
