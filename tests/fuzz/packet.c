/* SPDX-License-Identifier: Apache-2.0 */
/* packet.h over any bytes behind an Ethernet header: what it takes for whole lies within the frame. */
#include "packet.h"

#include "input.h"

static uint32_t big_endian(const uint8_t *at, size_t size) {
    uint32_t number = 0;
    while (size--)
        number = number << 8 | *at++;
    return number;
}

static void ipv4_is_read(struct packet *packet, const uint8_t *ip, size_t size) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool whole = read_ipv4(packet, (const void *)ip);
    uint32_t length = big_endian(ip + 2, 2);
    HOLDS(whole == (length >= 20 && length <= size));
    HOLDS(packet->family == 4 && packet->length == length);
    HOLDS(packet->hop_limit == ip[8] && packet->protocol == ip[9]);
    HOLDS(!memcmp(packet->source, mapped, 12) && !memcmp(&packet->source[3], ip + 12, 4));
    HOLDS(!memcmp(packet->destination, mapped, 12) && !memcmp(&packet->destination[3], ip + 16, 4));
    HOLDS(is_martian(packet->family, packet->source) == (ip[12] == 0 || ip[12] == 127 || ip[12] >= 224));
}

static void ipv6_is_read(struct packet *packet, const uint8_t *ip, size_t size) {
    static const uint8_t nowhere[15];
    bool whole = read_ipv6(packet, (const void *)ip);
    uint32_t length = 40 + big_endian(ip + 4, 2);
    HOLDS(whole == (length <= size));
    HOLDS(packet->family == 6 && packet->length == length);
    HOLDS(packet->protocol == ip[6] && packet->hop_limit == ip[7]);
    HOLDS(!memcmp(packet->source, ip + 8, 16) && !memcmp(packet->destination, ip + 24, 16));
    HOLDS(same_address(packet->source, packet->destination) == !memcmp(ip + 8, ip + 24, 16));
    HOLDS(is_martian(packet->family, packet->source) ==
          (ip[8] == 0xff || (!memcmp(ip + 8, nowhere, 15) && ip[23] < 2)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct input input = {bytes, size};
    uint8_t *ip = take_rest(&input);
    struct packet packet = {.l3 = ip, .end = ip + input.left};
    if (input.left >= sizeof(struct iphdr))
        ipv4_is_read(&packet, ip, input.left);
    if (input.left >= sizeof(struct ipv6hdr))
        ipv6_is_read(&packet, ip, input.left);
    give_back(&input, ip);
    return 0;
}
