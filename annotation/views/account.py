"""The front page, signing in and out."""

from __future__ import annotations

from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path


def home(request: HttpRequest) -> HttpResponse:
    return render(request, "annotation/home.html")


urlpatterns = [
    path("", home, name="home"),
    path("login/", auth_views.LoginView.as_view(template_name="annotation/login.html"), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
]
