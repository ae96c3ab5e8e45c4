import unittest

from shop.bookings import Booking, clashes, clock, free, is_valid, merge, overlap, usage


class BookingTest(unittest.TestCase):
    def test_minutes(self):
        self.assertEqual(Booking(60, 105).minutes, 45)

    def test_valid_within_the_day(self):
        self.assertTrue(is_valid(Booking(0, 1440)))
        self.assertTrue(is_valid(Booking(1000, 1060)))

    def test_shortest_valid(self):
        self.assertTrue(is_valid(Booking(60, 75)))
        self.assertFalse(is_valid(Booking(60, 74)))

    def test_outside_the_day(self):
        self.assertFalse(is_valid(Booking(-1, 60)))
        self.assertFalse(is_valid(Booking(1400, 1441)))


class OverlapTest(unittest.TestCase):
    def test_apart(self):
        self.assertFalse(overlap(Booking(0, 30), Booking(60, 90)))
        self.assertFalse(overlap(Booking(60, 90), Booking(0, 30)))

    def test_partly_and_within(self):
        self.assertTrue(overlap(Booking(0, 60), Booking(30, 90)))
        self.assertTrue(overlap(Booking(30, 60), Booking(0, 90)))

    def test_back_to_back_is_no_overlap(self):
        self.assertFalse(overlap(Booking(0, 60), Booking(60, 90)))
        self.assertFalse(overlap(Booking(60, 90), Booking(0, 60)))

    def test_clashes(self):
        day = [Booking(0, 60), Booking(90, 120), Booking(30, 100), Booking(120, 150)]
        self.assertEqual(clashes(day), [(0, 2), (1, 2)])

    def test_one_booking_never_clashes(self):
        self.assertEqual(clashes([Booking(0, 60)]), [])


class MergeTest(unittest.TestCase):
    def test_keeps_gaps(self):
        day = [Booking(90, 120), Booking(0, 60)]
        self.assertEqual(merge(day), [Booking(0, 60), Booking(90, 120)])

    def test_touching_become_one(self):
        self.assertEqual(merge([Booking(0, 60), Booking(60, 90)]), [Booking(0, 90)])

    def test_one_within_another(self):
        self.assertEqual(merge([Booking(0, 90), Booking(30, 60)]), [Booking(0, 90)])

    def test_three_in_a_row(self):
        day = [Booking(0, 20), Booking(30, 50), Booking(40, 70), Booking(80, 95)]
        self.assertEqual(merge(day), [Booking(0, 20), Booking(30, 70), Booking(80, 95)])


class FreeTest(unittest.TestCase):
    def test_empty_day(self):
        self.assertEqual(free([], 540, 1020), [Booking(540, 1020)])

    def test_between_bookings(self):
        day = [Booking(600, 660), Booking(720, 780)]
        gaps = [Booking(540, 600), Booking(660, 720), Booking(780, 1020)]
        self.assertEqual(free(day, 540, 1020), gaps)

    def test_gap_of_exactly_the_shortest(self):
        self.assertEqual(free([Booking(555, 1020)], 540, 1020), [Booking(540, 555)])
        self.assertEqual(free([Booking(540, 1005)], 540, 1020), [Booking(1005, 1020)])

    def test_gap_too_short(self):
        self.assertEqual(free([Booking(554, 1006)], 540, 1020), [])

    def test_booked_before_opening(self):
        self.assertEqual(free([Booking(480, 600)], 540, 720), [Booking(600, 720)])


class UsageTest(unittest.TestCase):
    def test_half(self):
        self.assertEqual(usage([Booking(540, 660)], 540, 780), 50)

    def test_counts_shared_minutes_once(self):
        self.assertEqual(usage([Booking(0, 50), Booking(25, 75)], 0, 100), 75)

    def test_clock(self):
        self.assertEqual(clock(545), "09:05")
        self.assertEqual(clock(1439), "23:59")
