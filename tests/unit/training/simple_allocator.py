"""A second caching allocator, written from the documented rules with plain lists, slow and without any index.

Segments are lists of [address, size, state]; a state is "free", "used", "waiting" (freed, a stream is not done) or
"none" (addresses of an expandable segment without memory). It shares no code with the package.
"""

from __future__ import annotations

MIB = 1 << 20


class NoMemory(Exception):
    """The device has no more."""


class SimpleAllocator:
    """One device; every search looks at everything."""

    def __init__(
        self, capacity=None, *, expandable=False, max_split=None, divisions=0, fraction=None, collect=0.0,
        record=False, first_made=False,
    ):  # fmt: skip
        self.capacity, self.expandable, self.max_split, self.divisions = capacity, expandable, max_split, divisions
        self.allowed = None if fraction is None else int(fraction * capacity)
        self.collect = collect
        self.segments = []
        self.next_address = 1 << 46
        # with first_made: ties go to the segment made first, and segments come at falling addresses
        self.first_made = first_made
        self.requests = {}
        # address of a block that is used or waiting: bytes asked for
        self.asked_of_device = []
        self.searches = 0
        self.ages = {}
        # (segment, address) of a free block of the large pool: the searches when it became free
        self.events = [] if record else None

    # what the counters of torch.cuda.memory_stats would say

    def total(self, *states):
        return sum(size for segment in self.segments for _, size, state in segment["blocks"] if state in states)

    @property
    def reserved(self):
        return self.total("free", "used", "waiting")

    @property
    def allocated(self):
        return self.total("used")

    @property
    def active(self):
        return self.total("used", "waiting")

    @property
    def requested(self):
        return sum(self.requests.values())

    def rounded(self, nbytes):
        if nbytes < 512:
            return 512
        if self.divisions > 1 and nbytes > 512 * self.divisions:
            power = 1
            while power * 2 <= nbytes:
                power *= 2
            size = power
            while size < nbytes:
                size += power // self.divisions
            return size
        return (nbytes + 511) // 512 * 512

    def note(self, action, address, size, stream):
        if self.events is not None:
            self.events.append([action, address, size, stream])

    # requests

    def malloc(self, nbytes, stream=0):
        size = self.rounded(nbytes)
        small = size <= MIB
        collects = self.collect > 0 and self.allowed is not None
        if collects and not small:
            self.searches += 1
        found = self.find(size, small, stream)
        if found is None:
            if collects:
                self.collect_garbage()
            found = self.take(size, small, stream)
            if found is None and self.max_split is not None and self.release_some(size, small, stream):
                found = self.take(size, small, stream)
            if found is None:
                self.empty_cache()
                found = self.take(size, small, stream)
            if found is None:
                self.note("oom", 0, nbytes, stream)
                raise NoMemory(nbytes)
        segment, place = found
        address, whole, _ = segment["blocks"][place]
        rest = whole - size
        if small or self.expandable:
            cut = rest >= 512
        else:
            cut = rest > MIB and (self.max_split is None or size < self.max_split)
        age = self.ages.pop((id(segment), address), None)
        if cut:
            segment["blocks"][place : place + 1] = [[address, size, "used"], [address + size, rest, "free"]]
            self.ages[id(segment), address + size] = self.searches
        else:
            segment["blocks"][place][2] = "used"
        assert age is None or age <= self.searches
        self.requests[address] = nbytes
        self.note("alloc", address, nbytes, stream)
        return address

    def free(self, address, *, waits=False):
        segment, place = self.where(address)
        assert segment["blocks"][place][2] == "used"
        segment["blocks"][place][2] = "waiting"
        self.note("free_requested", address, self.requests[address], segment["stream"])
        if not waits:
            self.done(address)

    def done(self, address):
        segment, place = self.where(address)
        assert segment["blocks"][place][2] == "waiting"
        self.note("free_completed", address, self.requests.pop(address), segment["stream"])
        segment["blocks"][place][2] = "free"
        self.join(segment, "free")
        at = next(block for block in segment["blocks"] if block[0] <= address < block[0] + block[1])
        for block in segment["blocks"]:
            if at[0] < block[0] < at[0] + at[1]:
                self.ages.pop((id(segment), block[0]), None)
        self.ages[id(segment), at[0]] = self.searches

    def where(self, address):
        for segment in self.segments:
            for place, block in enumerate(segment["blocks"]):
                if block[0] == address and block[2] in ("used", "waiting"):
                    return segment, place
        raise AssertionError(address)

    def join(self, segment, state):
        merged = []
        for block in segment["blocks"]:
            if merged and merged[-1][2] == state == block[2]:
                merged[-1][1] += block[1]
            else:
                merged.append(list(block))
        segment["blocks"][:] = merged

    # where a block comes from

    def candidates(self, small, stream):
        found = []
        for segment in self.segments:
            if (segment["small"], segment["stream"]) == (small, stream):
                for place, (address, size, state) in enumerate(segment["blocks"]):
                    if state == "free":
                        found.append((size, address, segment, place))
        if self.first_made:
            return sorted(found, key=lambda item: (item[0], self.segments.index(item[2]), item[1]))
        return sorted(found, key=lambda item: item[:2])

    def find(self, size, small, stream):
        fits = [item for item in self.candidates(small, stream) if item[0] >= size]
        if not fits:
            return None
        at = 0
        if self.expandable:

            def grown(item):
                blocks, place = item[2]["blocks"], item[3]
                more = blocks[place + 1][1] if place + 1 < len(blocks) and blocks[place + 1][2] == "none" else 0
                return item[0] + more

            while at + 1 < len(fits) and grown(fits[at + 1]) < grown(fits[at]):
                at += 1
        best = fits[at]
        if self.max_split is not None:
            if size < self.max_split <= best[0]:
                return None
            if size >= self.max_split and best[0] >= size + 20 * MIB:
                return None
        return best[2], best[3]

    def room(self, nbytes):
        return self.capacity is None or self.reserved + nbytes <= self.capacity

    def place(self, nbytes):
        step = ((nbytes + 2 * MIB - 1) // (2 * MIB) + 1) * 2 * MIB
        if self.first_made:
            self.next_address -= step
            return self.next_address
        self.next_address += step
        return self.next_address - step

    def take(self, size, small, stream):
        wanted = 2 * MIB if small else 20 * MIB if size < 10 * MIB else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
        if self.allowed is not None and self.reserved + wanted > self.allowed:
            return None
        if self.expandable:
            return self.extend(size, small, stream)
        if not self.room(wanted):
            return None
        address = self.place(wanted)
        segment = {"small": small, "stream": stream, "blocks": [[address, wanted, "free"]], "grows": False}
        self.segments.append(segment)
        self.asked_of_device.append(("segment_alloc", address, wanted))
        self.note("segment_alloc", address, wanted, stream)
        return segment, 0

    def extend(self, size, small, stream):
        page = 2 * MIB if small else 20 * MIB
        while True:
            spot = None
            for segment in sorted(self.segments, key=lambda item: item["blocks"][0][0]):
                if (segment["small"], segment["stream"]) != (small, stream):
                    continue
                blocks = segment["blocks"]
                for place, block in enumerate(blocks):
                    if block[2] != "none" or spot is not None:
                        continue
                    start = place - 1 if place and blocks[place - 1][2] == "free" else place
                    reach, at = 0, start
                    while at < len(blocks) and blocks[at][2] in ("free", "none") and reach < size:
                        reach += blocks[at][1]
                        at += 1
                    if reach >= size:
                        spot = segment, blocks[start][0]
            if spot is None:
                span = ((1 << 40) + page - 1) // page * page
                address = self.place(span)
                segment = {"small": small, "stream": stream, "blocks": [[address, span, "none"]]}
                self.segments.append({**segment, "grows": True, "base": address})
                continue
            break
        segment, start = spot
        while True:
            self.join(segment, "free")
            place = next(at for at, block in enumerate(segment["blocks"]) if block[0] == start)
            block = segment["blocks"][place]
            if block[2] == "free" and block[1] >= size:
                return segment, place
            empty = place if block[2] == "none" else place + 1
            have = 0 if block[2] == "none" else block[1]
            address, length, state = segment["blocks"][empty]
            assert state == "none"
            pages = -(-min(size - have, length) // page) * page
            if not self.room(pages):
                return None
            parts = [[address, pages, "free"]]
            if pages < length:
                parts.append([address + pages, length - pages, "none"])
            segment["blocks"][empty : empty + 1] = parts
            self.asked_of_device.append(("segment_map", address, pages))
            self.note("segment_map", address, pages, stream)

    # what goes back

    def give_back(self, segment):
        self.segments.remove(segment)
        address, size, _ = segment["blocks"][0]
        self.ages.pop((id(segment), address), None)
        self.asked_of_device.append(("segment_free", address, size))
        self.note("segment_free", address, size, segment["stream"])

    def empty_cache(self):
        for small in (False, True):
            streams = sorted({segment["stream"] for segment in self.segments if segment["small"] == small})
            order = [item for stream in streams for item in self.candidates(small, stream)]
            for _, _, segment, _ in order:
                if not segment["grows"] and len(segment["blocks"]) == 1:
                    self.give_back(segment)
            page = 2 * MIB if small else 20 * MIB
            for _, address, segment, _ in order:
                if segment["grows"]:
                    self.unmap(segment, address, page)

    def unmap(self, segment, address, page):
        blocks, base = segment["blocks"], segment["base"]
        place = next(at for at, block in enumerate(blocks) if block[0] == address)
        _, size, _ = blocks[place]
        start = base + -(-(address - base) // page) * page
        stop = base + (address + size - base) // page * page
        if start >= stop:
            return
        parts = [[start, stop - start, "none"]]
        if start > address:
            parts.insert(0, [address, start - address, "free"])
        if stop < address + size:
            parts.append([stop, address + size - stop, "free"])
        blocks[place : place + 1] = parts
        self.join(segment, "none")
        self.asked_of_device.append(("segment_unmap", start, stop - start))
        self.note("segment_unmap", start, stop - start, segment["stream"])
        if len(blocks) == 1:
            self.segments.remove(segment)

    def release_some(self, size, small, stream):
        wanted = max(size, self.max_split)
        free = self.candidates(small, stream)
        enough = [item for item in free if item[0] >= wanted]
        if enough:
            self.give_back(enough[0][2])
            return True
        gone = 0
        for length, _, segment, _ in reversed(free):
            if gone >= wanted or length < self.max_split:
                break
            gone += length
            self.give_back(segment)
        return gone >= wanted

    def collect_garbage(self):
        over = self.reserved - int(self.collect * self.allowed)
        if over <= 0:
            return
        streams = sorted({segment["stream"] for segment in self.segments if not segment["small"]})
        old = [
            (self.searches - self.ages[id(segment), address], size, segment)
            for stream in streams
            for size, address, segment, _ in self.candidates(False, stream)
            if len(segment["blocks"]) == 1
        ]
        gone = 0
        while old and gone < over:
            mean = sum(age for age, _, _ in old) / len(old)
            now = [item for item in old if item[0] >= mean]
            if not now:
                break
            # The mean is taken before the pass and blocks leave one by one.
            for item in now:
                self.give_back(item[2])
                gone += item[1]
                old.remove(item)

    # the last state, as a snapshot has it

    def snapshot(self):
        found = []
        for segment in self.segments:
            run = []
            for block in [*segment["blocks"], [0, 0, "none"]]:
                if block[2] != "none":
                    run.append(block)
                    continue
                if run:
                    found.append(
                        {
                            "address": run[0][0], "total_size": sum(size for _, size, _ in run), "device": 0,
                            "segment_type": "small" if segment["small"] else "large", "stream": segment["stream"],
                            "is_expandable": segment["grows"],
                            "blocks": [
                                {
                                    "address": address, "size": size,
                                    "requested_size": self.requests.get(address, 0),
                                    "state": {"used": "active_allocated", "waiting": "active_awaiting_free",
                                              "free": "inactive"}[state],
                                }
                                for address, size, state in run
                            ],
                        }
                    )  # fmt: skip
                run = []
        return sorted(found, key=lambda item: item["address"])
