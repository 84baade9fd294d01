// A libavcodec.so.63 and libavutil.so.61 in one: passes every call on to the library that is installed, and misbehaves as MODE says.
// Compiled by tests/process/decoders.rs, once for each mode. The known pictures (12 units for both codecs) are decoded well
// everywhere but in WRONG_SAMPLES: what is tried is what comes after the check.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WELL, UNKNOWN_VERSION, WRONG_SAMPLES, CRASH, LEAVE, HANG, WILD_PLANES, NO_PLANES, HUGE, ENDLESS };

#define UNITS_OF_CHECK 12

static void *codec, *util;
static int units;

__attribute__((constructor)) static void open_installed(void) {
    char name[64];
    for (int major = 62; major >= 58 && !codec; major--) {
        snprintf(name, sizeof name, "libavcodec.so.%d", major);
        codec = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        snprintf(name, sizeof name, "libavutil.so.%d", major - 2);
        if (codec) util = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
}

static void *real(void *library, const char *name) {
    if (MODE == UNKNOWN_VERSION) abort(); // nothing may be called but the version
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) abort();
    return found;
}

#define PASS_ON(library, result, name, parameters, arguments) \
    result name parameters { return ((result (*) parameters)real(library, #name)) arguments; }

unsigned avcodec_version(void) { return (MODE == UNKNOWN_VERSION ? 99u : 63u) << 16 | 1 << 8 | 100; }
unsigned avutil_version(void) { return 61u << 16 | 1 << 8 | 100; }

PASS_ON(codec, const void *, avcodec_find_decoder_by_name, (const char *name), (name))
PASS_ON(codec, void *, avcodec_alloc_context3, (const void *decoder), (decoder))
PASS_ON(codec, int, avcodec_open2, (void *context, const void *decoder, void *options), (context, decoder, options))
PASS_ON(codec, void, avcodec_free_context, (void *context), (context))
PASS_ON(codec, void, avcodec_flush_buffers, (void *context), (context))
PASS_ON(codec, void *, av_packet_alloc, (void), ())
PASS_ON(codec, void, av_packet_free, (void *packet), (packet))
PASS_ON(codec, void, av_packet_unref, (void *packet), (packet))
PASS_ON(codec, int, av_new_packet, (void *packet, int size), (packet, size))
PASS_ON(util, void *, av_frame_alloc, (void), ())
PASS_ON(util, void, av_frame_free, (void *frame), (frame))
PASS_ON(util, void, av_frame_unref, (void *frame), (frame))
PASS_ON(util, int, av_hwframe_transfer_data, (void *to, const void *from, int flags), (to, from, flags))
PASS_ON(util, int, av_opt_set, (void *context, const char *name, const char *value, int flags), (context, name, value, flags))
PASS_ON(util, const char *, av_get_pix_fmt_name, (int format), (format))
PASS_ON(util, int, av_strerror, (int code, char *text, size_t size), (code, text, size))
PASS_ON(util, void, av_log_set_level, (int level), (level))

int avcodec_send_packet(void *context, const void *packet) {
    int is_later = ++units > UNITS_OF_CHECK + 10;
    if (MODE == CRASH && is_later) *(volatile int *)8 = 1;
    if (MODE == LEAVE && is_later) exit(0);
    if (MODE == HANG && is_later)
        for (;;) sleep(1);
    return ((int (*)(void *, const void *))real(codec, "avcodec_send_packet"))(context, packet);
}

int avcodec_receive_frame(void *context, void *frame) {
    struct {
        uint8_t *data[8];
        int linesize[8];
        uint8_t **extended_data;
        int width, height;
    } *head = frame;
    int received = ((int (*)(void *, void *))real(codec, "avcodec_receive_frame"))(context, frame);
    if (received != 0) return MODE == ENDLESS && units > UNITS_OF_CHECK ? 0 : received;
    if (MODE == WRONG_SAMPLES) head->data[0][1000] ^= 1;
    if (units <= UNITS_OF_CHECK) return 0;
    if (MODE == WILD_PLANES) head->data[0] = (uint8_t *)4096;
    if (MODE == NO_PLANES) head->data[1] = NULL;
    if (MODE == HUGE) head->width = 1 << 30;
    return 0;
}
