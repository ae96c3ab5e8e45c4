import unittest

from shop.stock import Item, Order, allocate, discount, invoice, line_price
from shop.stock import packs, pages, shipping, shortages, with_vat


class PriceTest(unittest.TestCase):
    def test_discount_steps(self):
        steps = [discount(quantity) for quantity in (1, 9, 10, 99, 100, 500)]
        self.assertEqual(steps, [0, 0, 5, 5, 15, 15])

    def test_line_price(self):
        self.assertEqual(line_price(250, 2), 500)
        self.assertEqual(line_price(250, 10), 2375)

    def test_line_price_rounds_down(self):
        self.assertEqual(line_price(1, 11), 10)

    def test_shipping(self):
        self.assertEqual(shipping(4999), 495)
        self.assertEqual(shipping(5000), 0)

    def test_no_shipping_for_pickup(self):
        self.assertEqual(shipping(100, pickup=True), 0)

    def test_vat(self):
        self.assertEqual(with_vat(1000), 1200)
        self.assertEqual(with_vat(999, 7), 1068)

    def test_small_invoice(self):
        self.assertEqual(invoice([(250, 2), (1000, 1)]), 2295)

    def test_large_invoice(self):
        self.assertEqual(invoice([(1000, 10)]), 11400)

    def test_invoice_with_pickup(self):
        self.assertEqual(invoice([(100, 1)], pickup=True), 120)


class AllocateTest(unittest.TestCase):
    def test_enough_for_all(self):
        orders = [Order("north", 4), Order("south", 3)]
        self.assertEqual(allocate(orders, 10), {"north": 4, "south": 3})

    def test_priority_first(self):
        orders = [Order("north", 4), Order("south", 5, priority=2)]
        self.assertEqual(allocate(orders, 6), {"south": 5, "north": 1})

    def test_small_orders_first(self):
        orders = [Order("north", 6), Order("south", 2)]
        self.assertEqual(allocate(orders, 5), {"south": 2, "north": 3})

    def test_nobody_gets_nothing(self):
        orders = [Order("north", 3), Order("south", 4)]
        self.assertEqual(allocate(orders, 3), {"north": 3})


class BuyTest(unittest.TestCase):
    def test_shortages(self):
        items = [Item("nails", 5), Item("glue", 1), Item("paint", 6)]
        self.assertEqual(shortages(items), ["glue", "nails"])

    def test_emptiest_shelf_first(self):
        items = [Item("nails", 3, reorder_at=4), Item("glue", 10, reorder_at=30)]
        self.assertEqual(shortages(items), ["glue", "nails"])

    def test_discontinued(self):
        items = [Item("lamps", 0, discontinued=True), Item("bulbs", 50, discontinued=True)]
        self.assertEqual(shortages(items), [])

    def test_packs(self):
        self.assertEqual(packs(Item("nails", 9)), 1)
        self.assertEqual(packs(Item("glue", 0, reorder_at=12)), 2)
        self.assertEqual(packs(Item("paint", 0, reorder_at=4), size=5), 2)

    def test_packs_without_a_rest(self):
        self.assertEqual(packs(Item("tape", 0), size=5), 2)
        self.assertEqual(packs(Item("rope", 4, reorder_at=5), size=6), 1)

    def test_no_packs(self):
        self.assertEqual(packs(Item("nails", 10)), 0)
        self.assertEqual(packs(Item("nails", 80)), 0)

    def test_pages(self):
        self.assertEqual(pages(["a", "b", "c", "d", "e"], 2), [["a", "b"], ["c", "d"], ["e"]])

    def test_one_page(self):
        names = [str(number) for number in range(10)]
        self.assertEqual(pages(names), [names])
