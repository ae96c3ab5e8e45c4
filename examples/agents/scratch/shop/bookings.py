"""Bookings of the meeting room within one day, in minutes since midnight."""

from dataclasses import dataclass

DAY = 24 * 60
SHORTEST = 15


@dataclass(frozen=True, order=True)
class Booking:
    """The minutes from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def minutes(self):
        return self.end - self.start


def is_valid(booking):
    """Whether the booking lies within the day and is long enough."""
    within = booking.start >= 0 and booking.end <= DAY
    return within and booking.minutes >= SHORTEST


def overlap(first, second):
    """Whether the two bookings share a minute."""
    return first.start < second.end and second.start < first.end


def clashes(bookings):
    """The positions of every two bookings that overlap, each pair once."""
    pairs = []
    for i in range(len(bookings)):
        for j in range(i + 1, len(bookings)):
            if overlap(bookings[i], bookings[j]):
                pairs.append((i, j))
    return pairs


def merge(bookings):
    """The same minutes in as few bookings as possible, in order."""
    merged = []
    for booking in sorted(bookings):
        if not merged or booking.start > merged[-1].end:
            merged.append(booking)
        else:
            last = merged.pop()
            merged.append(Booking(last.start, max(last.end, booking.end)))
    return merged


def free(bookings, opening, closing, shortest=SHORTEST):
    """The gaps of at least `shortest` minutes between opening and closing."""
    gaps = []
    cursor = opening
    for booking in merge(bookings):
        if booking.start - cursor >= shortest:
            gaps.append(Booking(cursor, booking.start))
        cursor = max(cursor, booking.end)
    if closing - cursor >= shortest:
        gaps.append(Booking(cursor, closing))
    return gaps


def usage(bookings, opening, closing):
    """The booked share of the opening time, in whole per cent."""
    booked = sum(booking.minutes for booking in merge(bookings))
    return booked * 100 // (closing - opening)


def clock(minute):
    """A minute of the day as it is written on the door: 09:05."""
    hours, minutes = divmod(minute, 60)
    return f"{hours:02}:{minutes:02}"
