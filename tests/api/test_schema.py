"""The nine inputs: defaults, exact values, and the error item for each kind of invalid field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from serve_app.api.schema import Resolution, VideoInput, check_supported
from serve_app.errors import FeatureNotSupported, to_wire
from serve_app.fal import OutputType, Quality, Variant, WriteMode
from serve_app.jobs.output import output_of
from serve_app.jobs.request import JobRequest, JobResult
from serve_app.parsing import InvalidInput, parse_object, validated
from serve_app.protocols import MediaFile

URL = "https://host.example/v.mp4"


def parse(**fields: Any) -> VideoInput:
    return validated(VideoInput, parse_object(json.dumps({"video_url": URL} | fields).encode()))


def errors(body: bytes) -> list[dict[str, Any]]:
    with pytest.raises(InvalidInput) as caught:
        validated(VideoInput, parse_object(body))
    return caught.value.details


def test_defaults() -> None:
    assert parse() == VideoInput(video_url=URL)
    assert parse().to_request() == JobRequest(
        URL, Variant.LIGHT, 1024, False, True, False, OutputType.MP4, Quality.HIGH, WriteMode.BALANCED
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (
            "model",
            [
                "General Use (Light)",
                "General Use (Light 2K)",
                "General Use (Heavy)",
                "Matting",
                "Portrait",
                "General Use (Dynamic)",
            ],
        ),
        ("operating_resolution", ["1024x1024", "2048x2048", "2304x2304"]),
        ("output_mask", [True, False]),
        ("refine_foreground", [True, False]),
        ("sync_mode", [True, False]),
        ("video_output_type", ["X264 (.mp4)", "VP9 (.webm)", "PRORES4444 (.mov)", "GIF (.gif)"]),
        ("video_quality", ["low", "medium", "high", "maximum"]),
        ("video_write_mode", ["fast", "balanced", "small"]),
    ],
)
def test_every_value_is_accepted_and_reaches_the_job(field: str, values: list[Any]) -> None:
    for value in values:
        video = parse(**{field: value})
        assert getattr(video, field) == value
        assert (
            JobRequest.from_json(json.loads(json.dumps(video.to_request().as_json()))) == video.to_request()
        )


def test_the_job_gets_all_fields() -> None:
    video = parse(
        model="Matting",
        operating_resolution="2048x2048",
        output_mask=True,
        refine_foreground=False,
        sync_mode=True,
        video_output_type="VP9 (.webm)",
        video_quality="low",
        video_write_mode="small",
    )
    assert video.to_request() == JobRequest(
        URL, Variant.MATTING, 2048, True, False, True, OutputType.WEBM, Quality.LOW, WriteMode.SMALL
    )


def test_our_own_extension() -> None:
    """Left out it is off, and a job that an older version has queued has none."""
    assert parse(drop_audio=True).to_request() == replace(parse().to_request(), drop_audio=True)
    queued = parse().to_request().as_json()
    del queued["drop_audio"]
    assert JobRequest.from_json(queued) == parse().to_request()


def test_unknown_fields_are_ignored() -> None:
    assert parse(mask_only=True, output_format="png", x=[{}]) == parse()


ENUMS = {
    "model": "'General Use (Light)', 'General Use (Light 2K)', 'General Use (Heavy)', 'Matting', 'Portrait' or "
    "'General Use (Dynamic)'",
    "operating_resolution": "'1024x1024', '2048x2048' or '2304x2304'",
    "video_output_type": "'X264 (.mp4)', 'VP9 (.webm)', 'PRORES4444 (.mov)' or 'GIF (.gif)'",
    "video_quality": "'low', 'medium', 'high' or 'maximum'",
    "video_write_mode": "'fast', 'balanced' or 'small'",
}


@pytest.mark.parametrize("value", ["ultra", "", "HIGH", "matting", " low", 1, True, None, ["low"], {"a": 1}])
@pytest.mark.parametrize("field", ENUMS)
def test_enums_are_exact(field: str, value: Any) -> None:
    expected = ENUMS[field]
    assert errors(json.dumps({"video_url": URL, field: value}).encode()) == [
        {
            "type": "literal_error",
            "loc": ["body", field],
            "msg": f"Input should be {expected}",
            "input": value,
            "ctx": {"expected": expected},
            "url": "https://docs.fal.ai/errors/#literal_error",
        }
    ]


@pytest.mark.parametrize("field", ["output_mask", "refine_foreground", "sync_mode"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [("perhaps", "bool_parsing"), (2, "bool_parsing"), (None, "bool_type"), ([], "bool_type")],
)
def test_booleans(field: str, value: Any, kind: str) -> None:
    (item,) = errors(json.dumps({"video_url": URL, field: value}).encode())
    assert (item["type"], item["loc"], item["input"]) == (kind, ["body", field], value)


@pytest.mark.parametrize("value", [None, 5, True, ["http://x"], {"url": "http://x"}])
def test_the_url_is_a_string(value: Any) -> None:
    (item,) = errors(json.dumps({"video_url": value}).encode())
    assert (item["type"], item["loc"], item["input"]) == ("string_type", ["body", "video_url"], value)
    assert item["msg"] == "Input should be a valid string"


def test_the_url_is_required() -> None:
    assert errors(b"{}") == [
        {
            "type": "missing",
            "loc": ["body", "video_url"],
            "msg": "Field required",
            "input": {},
            "url": "https://docs.fal.ai/errors/#missing",
        }
    ]


def test_one_error_for_each_bad_field() -> None:
    found = errors(b'{"model": "x", "video_quality": null, "output_mask": "x", "other": 1}')
    assert [item["loc"][1] for item in found] == ["video_url", "model", "output_mask", "video_quality"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"video_url=http://x",
        b'{"video_url": NaN}',
        b'{"video_url": "\\ud800"}',
        b'{"video_url": "\xff"}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a": 1} x',
    ],
)
def test_bodies_that_are_not_json(body: bytes) -> None:
    (item,) = errors(body)
    assert item["type"] == "json_invalid" and item["loc"] == ["body"] and item["msg"] == "JSON decode error"
    assert item["ctx"]["error"] and item["url"] == "https://docs.fal.ai/errors/#json_invalid"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_bodies_that_are_not_an_object(body: bytes) -> None:
    (item,) = errors(body)
    assert (item["type"], item["loc"], item["input"]) == ("dict_type", ["body"], json.loads(body))


@pytest.mark.parametrize("model", [model for model in Variant if model is not Variant.DYNAMIC])
def test_the_largest_resolution_is_for_one_model(model: Variant) -> None:
    field = "operating_resolution"
    with pytest.raises(FeatureNotSupported) as caught:
        check_supported(parse(operating_resolution="2304x2304", model=model.value))
    wire = to_wire(caught.value)
    assert wire.status == 422
    (item,) = wire.body["detail"]
    assert (item["type"], item["loc"]) == ("feature_not_supported", ["body", field])
    assert field in item["msg"]


def test_supported_combinations() -> None:
    for model in Variant:
        for resolution in (Resolution.R1024, Resolution.R2048):
            check_supported(
                parse(model=model, operating_resolution=resolution, output_mask=True, sync_mode=True)
            )
    check_supported(parse(model="General Use (Dynamic)", operating_resolution="2304x2304"))


def test_the_output_omits_an_absent_mask() -> None:
    media = MediaFile("outputs/1/v.mp4", "video/mp4", "v.mp4", 10, 64, 48, 23.976, 1.5, 36)
    assert output_of(JobResult(media), lambda file: f"http://h/files/{file.name}") == {
        "video": {
            "url": "http://h/files/outputs/1/v.mp4",
            "content_type": "video/mp4",
            "file_name": "v.mp4",
            "file_size": 10,
            "width": 64,
            "height": 48,
            "fps": 23.976,
            "duration": 1.5,
            "num_frames": 36,
        }
    }
