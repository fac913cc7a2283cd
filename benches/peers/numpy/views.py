"""The three views written by hand for arrays: what a patient programmer makes of just this work.

Each station has a place in arrays, so that a snapshot is a few operations on whole arrays.
"""

from collections import deque

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HOUR = np.timedelta64(1, "h")
MONDAY = np.datetime64("1970-01-05T00", "us")
CONDITIONS = np.array(["fine", "empty", "full", "low"])


class Views:
    def __init__(self, stations: pa.Table):
        self.ids = stations["station_id"].combine_chunks()
        self.names = stations["name"].to_numpy()
        area = stations["region"].combine_chunks().dictionary_encode()
        self.areas, self.area = area.dictionary, area.indices.to_numpy()
        n = len(self.ids)
        self.now = None
        self.bikes, self.docks = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self.observed_at = np.full(n, np.datetime64("NaT", "us"))
        self.condition, self.since = np.zeros(n, np.int8), self.observed_at.copy()
        # By hour: snapshots, bikes, docks, out of bikes, out of docks of each area.
        self.hours = {}
        # By hour of the week: snapshots and bikes of each station.
        self.week = np.zeros((168, 2, n), np.int64)
        self.touched = set()
        # What was seen in the last 60 minutes: time, places, bikes.
        self.recent = deque()

    def snapshot(self, rows: pa.RecordBatch):
        """Takes a snapshot in."""
        place = pc.index_in(rows["station_id"], self.ids).to_numpy()
        bikes, docks = rows["bikes"].to_numpy(), rows["docks"].to_numpy()
        renting = rows["is_renting"].to_numpy(zero_copy_only=False)
        returning = rows["is_returning"].to_numpy(zero_copy_only=False)
        now = self.now = np.datetime64(rows["observed_at"][0].value, "us")
        hour = now.astype("datetime64[h]")

        area, m = self.area[place], len(self.areas)
        sums = self.hours.setdefault(hour, np.zeros((5, m), np.int64))
        weights = None, bikes, docks, (bikes == 0) & renting, (docks == 0) & returning
        for total, weight in zip(sums, weights):
            total += np.bincount(area, weight, m).astype(np.int64)

        self.bikes[place], self.docks[place], self.observed_at[place] = bikes, docks, now
        condition = np.select([bikes == 0, docks == 0, bikes * 10 < bikes + docks], [1, 2, 3], 0).astype(np.int8)
        turned = place[(condition != self.condition[place]) | np.isnat(self.since[place])]
        self.since[turned] = now
        self.condition[place] = condition

        slot = int((now - MONDAY) // HOUR) % 168
        self.week[slot, 0, place] += 1
        self.week[slot, 1, place] += bikes
        self.touched |= {slot}

        self.recent.append((now, place, bikes))
        while self.recent[0][0] <= now - HOUR:
            self.recent.popleft()

    def changes(self) -> dict[str, dict]:
        """The rows that may have changed since this was asked before; of critical, all."""
        station_now = np.flatnonzero(~np.isnat(self.observed_at))
        critical = np.flatnonzero(self.condition)
        total = self.bikes + self.docks
        rate = pa.array(self.bikes / np.maximum(total, 1), mask=total == 0)
        changes = {
            "area_hour": self._area_hour(),
            "station_now": {
                **self._station(station_now),
                "observed_at": self.observed_at[station_now],
                "rate": rate.take(pa.array(station_now)),
            },
            "critical": {
                **self._station(critical),
                "condition": CONDITIONS[self.condition[critical]],
                "since": self.since[critical],
            },
            "station_trend": self._station_trend(),
            "station_week": self._station_week(),
        }
        self.hours = {hour: sums for hour, sums in self.hours.items() if hour + HOUR > self.now}
        self.touched = set()
        return changes

    def _station(self, places) -> dict:
        return {
            "station_id": self.ids.take(pa.array(places)),
            "name": self.names[places],
            "area": self.areas.take(pa.array(self.area[places])),
            "bikes": self.bikes[places],
            "docks": self.docks[places],
        }

    def _area_hour(self) -> dict:
        sums = np.concatenate(list(self.hours.values()), axis=1)
        there = np.flatnonzero(sums[0])
        count, bikes, docks, out_of_bikes, out_of_docks = sums[:, there]
        return {
            "area": self.areas.take(pa.array(there % len(self.areas))),
            "hour": np.array(list(self.hours))[there // len(self.areas)].astype("datetime64[us]"),
            "snapshots": count,
            "bikes": bikes / count,
            "docks": docks / count,
            "out_of_bikes": out_of_bikes,
            "out_of_docks": out_of_docks,
        }

    def _station_trend(self) -> dict:
        """Least squares, with time counted from now so that nothing cancels out."""
        n, x, y, xx, xy = sums = np.zeros((5, len(self.ids)))
        for time, place, bikes in self.recent:
            hours = (time - self.now) / HOUR
            n[place] += 1
            x[place] += hours
            y[place] += bikes
            xx[place] += hours * hours
            xy[place] += hours * bikes
        n, x, y, xx, xy = sums[:, there] if len(there := np.flatnonzero(n)) else sums
        spread = n * xx - x * x
        slope = (n * xy - x * y) / np.where(spread > 0, spread, 1)
        return {"station_id": self.ids.take(pa.array(there)), "slope": pa.array(slope, mask=spread <= 0)}

    def _station_week(self) -> dict:
        slots = np.array(sorted(self.touched))
        count, bikes = self.week[slots].transpose(1, 0, 2)
        slot, place = np.nonzero(count)
        return {
            "station_id": self.ids.take(pa.array(place)),
            "weekday": slots[slot] // 24 + 1,
            "hour": slots[slot] % 24,
            "bikes": bikes[slot, place] / count[slot, place],
            "snapshots": count[slot, place],
        }
